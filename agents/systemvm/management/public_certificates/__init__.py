# SPDX-License-Identifier: Apache-2.0
"""Certificates for the public side of system VMs: uploaded by operators, or ordered from an ACME server."""
