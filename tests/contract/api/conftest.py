# SPDX-License-Identifier: Apache-2.0
"""The API over a small cloud."""

from __future__ import annotations

from small_cloud.fixtures import cloud, pristine

__all__ = ["cloud", "pristine"]
