# SPDX-License-Identifier: Apache-2.0
"""Starts QEMU for the management daemon, as a separate user without capabilities.

It imports only Python's standard library.
"""
