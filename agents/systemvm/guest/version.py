# SPDX-License-Identifier: Apache-2.0
"""The agent's version; `importlib.metadata` would cost half a second of an emulated start."""

from __future__ import annotations

VERSION = "0.1.0"
