# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC over byte streams: TLS between agents and the daemon, UNIX sockets between local processes."""
