# SPDX-License-Identifier: Apache-2.0
"""`systemvm`, the operator's command: JSON-RPC on the daemon's UNIX socket, with tables for people."""
