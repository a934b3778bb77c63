# SPDX-License-Identifier: Apache-2.0
"""Starts QEMU for the management daemon, as a user of its own and without any capability.

It needs Python's own library alone.
"""
