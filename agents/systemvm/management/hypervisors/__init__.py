# SPDX-License-Identifier: Apache-2.0
"""Drivers that run virtual machines; the rest of the daemon uses only `base`."""
