# SPDX-License-Identifier: Apache-2.0
"""Consoles: one-time tokens for browsers, and the authorization of CPVMs."""
