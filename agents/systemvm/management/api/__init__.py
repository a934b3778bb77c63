# SPDX-License-Identifier: Apache-2.0
"""CloudStack's query API: one table of commands, served as `/client/api` and as JSON-RPC on a socket."""
