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
XEN_VM = "4f1a6f0c-33f5-4c8e-9d5b-7a1d7c0f9b10"


class XapiPeer:
    """A pool with the VM `web-1`; `sessions` are those that live, `calls` the methods that were called."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.calls: list[str] = []
        self.hosts = {"OpaqueRef:host-1": HOST_ADDRESS}
        self.certificates: dict[str, str] = {}  # PEM, by host
        self.vms: dict[str, dict[str, Any]] = {"OpaqueRef:vm-7": xapi_vm(XEN_VM, "web-1")}
        self.consoles = {"OpaqueRef:con-text": "vt100", "OpaqueRef:con-7": "rfb"}
        self.location = f"https://{HOST_ADDRESS}/console?ref=OpaqueRef:con-7"
        self.master = ""  # of the pool, when this is a slave of it

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
            if self.master:
                return _error("HOST_IS_SLAVE", self.master)
            if parameters[:2] != [USERNAME, PASSWORD]:
                return _error("SESSION_AUTHENTICATION_FAILED", parameters[0], "Authentication failure")
            self.sessions.append(f"OpaqueRef:session-{len(self.calls)}")
            return {"result": self.sessions[-1]}
        session, *rest = parameters
        if session not in self.sessions:
            return _error("SESSION_INVALID", session)
        match method:
            case "host.get_all_records":
                return {"result": {ref: xapi_host(address) for ref, address in self.hosts.items()}}
            case "VM.get_all_records_where":
                assert rest == ['field "is_a_template" = "false" and field "is_control_domain" = "false"']
                return {"result": self.vms}
            case "VM.get_by_uuid":
                found = [ref for ref, record in self.vms.items() if record["uuid"] == rest[0]]
                return {"result": found[0]} if found else _error("UUID_INVALID", "VM", rest[0])
            case "VM.get_consoles":
                return {"result": list(self.consoles)}
            case "VM.get_resident_on":
                return {"result": next(iter(self.hosts))}
            case "host.get_server_certificate":
                pem = self.certificates.get(rest[0])
                return {"result": pem} if pem else _error("INTERNAL_ERROR", "no certificate")
            case "console.get_protocol":
                return {"result": self.consoles[rest[0]]}
            case "console.get_location":
                return {"result": self.location}
        return _error("MESSAGE_METHOD_UNKNOWN", method)


def xapi_host(address: str) -> dict[str, Any]:
    """Return a host's record, with some of its fields."""
    return {
        "address": address,
        "hostname": "xen-1",
        "name_label": "xen-1",
        "enabled": True,
        "software_version": {"product_brand": "XCP-ng", "product_version": "8.3.0"},
    }


def xapi_vm(uuid: str, name: str, power: str = "Running") -> dict[str, Any]:
    """Return a VM's record, with some of its fields; XAPI sends numbers as text."""
    return {
        "uuid": uuid,
        "name_label": name,
        "power_state": power,
        "is_a_snapshot": False,
        "VCPUs_max": "2",
        "memory_static_max": str(2 << 30),
    }


def _error(code: str, *data: str) -> dict[str, Any]:
    return {"error": {"code": 1, "message": code, "data": list(data)}}


class VcenterPeer:
    """A vCenter with the VM `vm-42`, whose tickets name its ESXi host."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.tickets = 0
        self.esxi = "esxi-3.example.test"
        self.vms = [{"vm": "vm-42", "name": "db-1", "power_state": "POWERED_ON", "cpu_count": 1}]
        self.is_on = True
        self.may_read = True

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
        if not self.may_read:
            return ApiReply(403, {"error_type": "UNAUTHORIZED"})
        if (method, path) == ("GET", "/api/vcenter/vm"):
            return ApiReply(200, self.vms)
        if (method, path) == ("GET", "/api/vcenter/host"):
            return ApiReply(200, [{"host": "host-3", "name": self.esxi, "connection_state": "CONNECTED"}])
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
