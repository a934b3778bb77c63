# SPDX-License-Identifier: Apache-2.0
"""Identities and mutual TLS of the control channel."""
