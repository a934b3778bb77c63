# SPDX-License-Identifier: Apache-2.0
"""Recordings of consoles in the daemon: who is recorded, and what becomes of what was recorded."""
