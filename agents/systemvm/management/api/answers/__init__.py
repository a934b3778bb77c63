# SPDX-License-Identifier: Apache-2.0
"""Objects in answers, with CloudStack's keys (reference 5.5): each attribute is a key that listApis tells."""
