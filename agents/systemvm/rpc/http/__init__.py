# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC over HTTP on a UNIX socket, for the command line and `curl`."""
