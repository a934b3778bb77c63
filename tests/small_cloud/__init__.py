# SPDX-License-Identifier: Apache-2.0
"""A daemon's services for unit tests, around a real database; a module for each peer that is a fake."""

from small_cloud.cloud import CONSOLE_ORIGIN, ORIGIN, SmallCloud, make

__all__ = ["CONSOLE_ORIGIN", "ORIGIN", "SmallCloud", "make"]
