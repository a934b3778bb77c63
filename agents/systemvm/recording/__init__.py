# SPDX-License-Identifier: Apache-2.0
"""Recordings of consoles: a file format that survives a crash, written by CPVMs and read anywhere."""
