# SPDX-License-Identifier: Apache-2.0
"""The root helpers for secondary storage and its mounts: they take IDs and never paths."""
