# SPDX-License-Identifier: Apache-2.0
"""A client of console proxies, as the browser is one: token, session, WebSocket, reconnection."""
