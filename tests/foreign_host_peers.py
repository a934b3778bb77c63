# SPDX-License-Identifier: Apache-2.0
"""Protocol peers of hypervisors' APIs that do not run here: XAPI's JSON-RPC, and vCenter's REST API.

They answer as those are documented to, as far as the daemon calls them; a peer is an `ApiExchange`, or served
by HTTPS.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from systemvm.management.foreign_hosts.access import ApiReply

USERNAME, PASSWORD = "operator", "s3cret of the host"
HOST_ADDRESS = "10.11.0.31"


class XapiPeer:
    """A pool with the VM `i-2-7-VM`; `sessions` are those that live, `calls` the methods that were called."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.calls: list[str] = []
        self.vms = {"i-2-7-VM": ["OpaqueRef:vm-7"]}
        self.consoles = {"OpaqueRef:con-text": "vt100", "OpaqueRef:con-7": "rfb"}
        self.location = f"https://{HOST_ADDRESS}/console?ref=OpaqueRef:con-7"

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> ApiReply:
        if (method, path) != ("POST", "/jsonrpc"):
            return ApiReply(404, None)
        answer = self._call(body["method"], list(body["params"]))
        return ApiReply(200, {"jsonrpc": "2.0", "id": body["id"], **answer})

    def _call(self, method: str, parameters: list[str]) -> dict[str, Any]:
        self.calls.append(method)
        if method == "session.login_with_password":
            if parameters[:2] != [USERNAME, PASSWORD]:
                return _error("SESSION_AUTHENTICATION_FAILED")
            self.sessions.append(f"OpaqueRef:session-{len(self.calls)}")
            return {"result": self.sessions[-1]}
        session, *rest = parameters
        if session not in self.sessions:
            return _error("SESSION_INVALID")
        match method:
            case "VM.get_by_name_label":
                return {"result": self.vms.get(rest[0], [])}
            case "VM.get_consoles":
                return {"result": list(self.consoles)}
            case "console.get_protocol":
                return {"result": self.consoles[rest[0]]}
            case "console.get_location":
                return {"result": self.location}
        return _error("MESSAGE_METHOD_UNKNOWN")


def _error(code: str) -> dict[str, Any]:
    return {"error": {"code": 1, "message": code, "data": []}}


class VcenterPeer:
    """A vCenter with the VM `i-2-7-VM`, whose tickets name its ESXi host."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.tickets = 0
        self.esxi = "esxi-3.example.test"
        self.is_on = True

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> ApiReply:
        about = headers or {}
        if (method, path) == ("POST", "/api/session"):
            pair = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
            if about.get("Authorization") != f"Basic {pair}":
                return ApiReply(401, {"error_type": "UNAUTHENTICATED"})
            self.sessions.append(f"session-{len(self.sessions)}")
            return ApiReply(201, self.sessions[-1])
        if about.get("vmware-api-session-id") not in self.sessions:
            return ApiReply(401, {"error_type": "UNAUTHENTICATED"})
        if method == "GET" and path.startswith("/api/vcenter/vm?names="):
            found = [{"vm": "vm-42", "name": "i-2-7-VM"}] if path.endswith("=i-2-7-VM") else []
            return ApiReply(200, found)
        if (method, path, body) == ("POST", "/api/vcenter/vm/vm-42/console/tickets", {"type": "WEBMKS"}):
            if not self.is_on:
                return ApiReply(400, {"error_type": "NOT_ALLOWED_IN_CURRENT_STATE"})
            self.tickets += 1
            return ApiReply(201, {"ticket": f"wss://{self.esxi}:443/ticket/cst-VCT-{self.tickets}"})
        return ApiReply(404, {"error_type": "NOT_FOUND"})


@contextmanager
def served(peer: XapiPeer | VcenterPeer, context: ssl.SSLContext) -> Iterator[int]:
    """Serve a peer by HTTPS on a port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = peer(self.command, self.path, json.loads(text) if text else None, dict(self.headers))
            body = json.dumps(reply.body).encode()
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
