# SPDX-License-Identifier: Apache-2.0
"""Consoles: one-time tokens for browsers, and the answers that CPVMs ask for before they show a screen."""
