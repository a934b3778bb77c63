# SPDX-License-Identifier: Apache-2.0
"""A protocol peer of VMware as a program: vCenter's REST API, and an ESXi host that its tickets name.

Each has an address of its own; a ticket opens one console, once.
"""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path

from foreign_host_peers import VcenterPeer
from integration.cpvm_lab.hypervisor_peers import FramedScreen, accept_ticket
from integration.cpvm_lab.registered_host import RegisteredHost, listen, request, show_two_colours
from integration.cpvm_lab.vnc_server import exactly, shake_hands

VCENTER_ADDRESS, ESXI_ADDRESS = "10.11.0.40", "10.11.0.41"


class VcenterHost(RegisteredHost):
    """A vCenter at `VCENTER_ADDRESS`, whose ESXi host is at `ESXI_ADDRESS`."""

    def __init__(self, folder: Path, namespace: str) -> None:
        super().__init__("vcenter_server", folder, namespace, VCENTER_ADDRESS, ESXI_ADDRESS)


class Vmware:
    """Both hosts; a request is for the one at whose address it arrives."""

    def __init__(self, keys: Path) -> None:
        self._keys = keys
        self._vcenter = VcenterPeer()
        self._vcenter.esxi = ESXI_ADDRESS
        self._used: set[str] = set()

    def serve(self, connection: ssl.SSLSocket) -> None:
        is_esxi = connection.getsockname()[0] == ESXI_ADDRESS
        while True:
            method, path, headers = request(connection)
            if is_esxi:
                self._console(connection, path, headers)
                return
            text = exactly(connection, int(headers.get("content-length", "0")))
            named = {name: headers[name] for name in headers if name.startswith("vmware-")}
            if "authorization" in headers:
                named["Authorization"] = headers["authorization"]
            reply = self._vcenter(method, path, json.loads(text) if text else None, named)
            body = json.dumps(reply.body).encode()
            status = f"HTTP/1.1 {reply.status} -\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(status + body)

    def _console(self, connection: ssl.SSLSocket, path: str, headers: dict[str, str]) -> None:
        made = {f"/ticket/cst-VCT-{number}" for number in range(1, self._vcenter.tickets + 1)}
        if path not in made - self._used:
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        self._used.add(path)
        accept_ticket(connection, headers)
        screen = FramedScreen(connection)
        shake_hands(screen)
        show_two_colours(screen, self._keys)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    listen(folder, Vmware(folder / "keys").serve)
