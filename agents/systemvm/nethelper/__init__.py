# SPDX-License-Identifier: Apache-2.0
"""The only program with CAP_NET_ADMIN: a few operations on the bridges of the zone files."""
