# SPDX-License-Identifier: Apache-2.0
"""Consoles of VMware, by vCenter's REST API (7.0 U2 and later): a ticket opens one console, once."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote, urlsplit

from systemvm.management.foreign_hosts.access import ApiExchange, ApiReply, ForeignHostError, HostAccess
from systemvm.wire.console import ConsoleTarget, TargetTransport

_HTTPS = 443
_UNAUTHORIZED = 401


class VcenterConsoles:
    """Makes tickets for the consoles of one vCenter's VMs; for one thread at a time."""

    def __init__(self, access: HostAccess, exchange: ApiExchange) -> None:
        self._access = access
        self._exchange = exchange
        self._session = ""

    def target(self, vm_name: str) -> ConsoleTarget:
        """Return the console of the VM with this name, with a ticket of its own.

        Raises: ForeignHostError when there is none, or vCenter cannot be reached.
        """
        machines = self._asked("GET", f"/api/vcenter/vm?names={quote(vm_name, safe='')}")
        found = [each.get("vm") for each in machines] if isinstance(machines, list) else []
        if len(found) != 1 or not isinstance(found[0], str):
            raise ForeignHostError(
                f"{self._access.host} has {len(found)} VMs with the name {vm_name}", "rename the others"
            )
        path = f"/api/vcenter/vm/{quote(found[0], safe='')}/console/tickets"
        answer = self._asked("POST", path, {"type": "WEBMKS"})
        url = urlsplit(str(answer.get("ticket", "")) if isinstance(answer, dict) else "")
        if url.scheme != "wss" or not url.hostname:
            raise ForeignHostError(f"{self._access.host} made no ticket for {vm_name}", "start the VM")
        return ConsoleTarget(
            host=url.hostname,
            port=url.port or _HTTPS,
            password=None,
            transport=TargetTransport.WEBSOCKET,
            path=url.path,
            transport_tls=self._access.tls,
        )

    def _asked(self, method: str, path: str, body: object | None = None) -> Any:
        """Send a request within the session, which is opened again when vCenter has ended it."""
        answer = self._send(method, path, body) if self._session else None
        if answer is None or answer.status == _UNAUTHORIZED:
            self._session = self._log_in()
            answer = self._send(method, path, body)
        if not 200 <= answer.status < 300:
            raise ForeignHostError(
                f"{self._access.host} refused {method} {path.partition('?')[0]}: {answer.status}",
                "see its log; the account must be able to interact with consoles",
            )
        return answer.body

    def _send(self, method: str, path: str, body: object | None) -> ApiReply:
        return self._exchange(method, path, body, {"vmware-api-session-id": self._session})

    def _log_in(self) -> str:
        pair = f"{self._access.username}:{self._access.password}".encode()
        secret = {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}
        answer = self._exchange("POST", "/api/session", None, secret)
        if answer.status not in (200, 201) or not isinstance(answer.body, str):
            raise ForeignHostError(
                f"{self._access.host} refused the login of {self._access.username}", "correct its password"
            )
        return answer.body
