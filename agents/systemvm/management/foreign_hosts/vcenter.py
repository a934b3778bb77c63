# SPDX-License-Identifier: Apache-2.0
"""VMware, by vCenter's REST API (7.0 U2 and later): VMs, and tickets that open one console, once."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import quote, urlsplit

from systemvm.management.foreign_hosts.access import ApiExchange, ApiReply, HostAccess
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.inventory import (
    HostInventory,
    HostMachine,
    HostPower,
    shown_name,
    whole_number,
)
from systemvm.wire.console import ConsoleTarget, TargetTransport

_HTTPS = 443
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_REFERENCE = re.compile(r"[A-Za-z0-9:._-]{1,128}")
#: Everything else is off.
_POWER = {"POWERED_ON": HostPower.ON, "SUSPENDED": HostPower.SUSPENDED}


class VcenterHost:
    """One vCenter; for one thread at a time."""

    def __init__(self, access: HostAccess, exchange: ApiExchange) -> None:
        self._access = access
        self._exchange = exchange
        self._session = ""

    def inventory(self) -> HostInventory:
        """Return its ESXi hosts and VMs.

        Raises: ForeignHostError when it cannot be reached, or answers something else.
        """
        hosts = self._records("/api/vcenter/host")
        found = [_machine(record) for record in self._records("/api/vcenter/vm")]
        return HostInventory(
            machines=[each for each in found if each is not None],
            addresses=[str(record["name"]) for record in hosts if isinstance(record.get("name"), str)],
        )

    def target(self, reference: str) -> ConsoleTarget:
        """Return the console of the VM with this identifier, with a ticket of its own.

        Raises: ForeignHostError when there is none, or vCenter cannot be reached.
        """
        path = f"/api/vcenter/vm/{quote(reference, safe='')}/console/tickets"
        answer = self._asked("POST", path, {"type": "WEBMKS"})
        try:
            url = urlsplit(str(answer.get("ticket", "")) if isinstance(answer, dict) else "")
            host, port = url.hostname, url.port or _HTTPS
        except ValueError:
            url, host, port = urlsplit(""), None, 0
        if url.scheme != "wss" or not host:
            raise ForeignHostError(
                f"{self._access.host} made no ticket for the VM", "start the VM", ApiFault.NO_SCREEN
            )
        return ConsoleTarget(
            host=host,
            port=port,
            password=None,
            transport=TargetTransport.WEBSOCKET,
            path=url.path,
            transport_tls=self._access.tls,
        )

    def _records(self, path: str) -> list[dict[str, Any]]:
        answer = self._asked("GET", path)
        if not isinstance(answer, list):
            raise ForeignHostError(
                f"{self._access.host} is no vCenter: {path} is not a list", "check its url"
            )
        return [record for record in answer if isinstance(record, dict)]

    def _asked(self, method: str, path: str, body: object | None = None) -> Any:
        """Send a request within the session, which is opened again when vCenter has ended it."""
        answer = self._send(method, path, body) if self._session else None
        if answer is None or answer.status == _UNAUTHORIZED:
            self._session = self._log_in()
            answer = self._send(method, path, body)
        if not 200 <= answer.status < 300:
            raise self._refusal(method, path, answer.status)
        return answer.body

    def _refusal(self, method: str, path: str, status: int) -> ForeignHostError:
        what = f"{self._access.host} refused {method} {path}: {status}"
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            hint = 'give the account the privileges "Read-only" and "Console interaction"'
            return ForeignHostError(what, hint, ApiFault.FORBIDDEN)
        if path.endswith("/console/tickets"):
            gone = status == _NOT_FOUND
            hint = "the VM was deleted on its host" if gone else "start the VM"
            return ForeignHostError(what, hint, ApiFault.NO_SCREEN)
        return ForeignHostError(what, "see its log")

    def _send(self, method: str, path: str, body: object | None) -> ApiReply:
        return self._exchange(method, path, body, {"vmware-api-session-id": self._session})

    def _log_in(self) -> str:
        pair = f"{self._access.username}:{self._access.password}".encode()
        secret = {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}
        answer = self._exchange("POST", "/api/session", None, secret)
        if answer.status in (_UNAUTHORIZED, _FORBIDDEN):
            raise ForeignHostError(
                f"{self._access.host} refused the login of {self._access.username}",
                "correct username and password",
                ApiFault.LOGIN_REFUSED,
            )
        if answer.status not in (200, 201) or not isinstance(answer.body, str):
            raise ForeignHostError(
                f"{self._access.host} is no vCenter: its answer to a login has status {answer.status}",
                "check its url: vCenter must be 7.0 U2 or later",
            )
        return answer.body


def _machine(record: dict[str, Any]) -> HostMachine | None:
    reference = str(record.get("vm", ""))
    if not _REFERENCE.fullmatch(reference):
        return None
    return HostMachine(
        reference=reference,
        name=shown_name(record.get("name", ""), reference),
        power=_POWER.get(str(record.get("power_state")), HostPower.OFF),
        vcpus=whole_number(record.get("cpu_count")),
        memory_mib=whole_number(record.get("memory_size_MiB")),
    )
