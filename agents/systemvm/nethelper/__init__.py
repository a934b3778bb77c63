# SPDX-License-Identifier: Apache-2.0
"""The one program with CAP_NET_ADMIN: it knows a few operations, and the bridges of the zones' files."""
