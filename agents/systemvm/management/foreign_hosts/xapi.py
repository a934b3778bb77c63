# SPDX-License-Identifier: Apache-2.0
"""Consoles of XenServer and XCP-ng, by XAPI's JSON-RPC (`/jsonrpc`, XenServer 7.3 and later).

A console is reached by CONNECT with the cookie of a session, which must live as long as nobody has connected:
one session is kept for a host, and replaced when XAPI has ended it.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

from systemvm.management.foreign_hosts.access import ApiExchange, ForeignHostError, HostAccess
from systemvm.wire.console import ConsoleTarget, TargetTransport

_INVALID_SESSION = "SESSION_INVALID"
_HTTPS = 443


class XapiError(ForeignHostError):
    """An error of XAPI; `reason` is its code."""

    def __init__(self, reason: str, method: str) -> None:
        super().__init__(f"{method} of XAPI failed: {reason}", "see the host's log")
        self.reason = reason


class XapiConsoles:
    """Finds the consoles of one host or pool; for one thread at a time."""

    def __init__(self, access: HostAccess, exchange: ApiExchange) -> None:
        self._access = access
        self._exchange = exchange
        self._session = ""

    def target(self, vm_name: str) -> ConsoleTarget:
        """Return the console of the VM with this name label.

        Raises: ForeignHostError when there is none, or the host cannot be reached.
        """
        if self._session:
            try:
                return self._find(vm_name)
            except XapiError as error:
                if error.reason != _INVALID_SESSION:
                    raise
        login = [self._access.username, self._access.password, "1.0", "systemvm"]
        self._session = cast(str, self._call("session.login_with_password", *login, of=str))
        return self._find(vm_name)

    def _find(self, vm_name: str) -> ConsoleTarget:
        machines = self._asked("VM.get_by_name_label", vm_name, of=list)
        if len(machines) != 1:
            raise ForeignHostError(
                f"{self._access.host} has {len(machines)} VMs with the name {vm_name}",
                "rename the others, or start it",
            )
        for console in self._asked("VM.get_consoles", machines[0], of=list):
            if self._asked("console.get_protocol", console, of=str) == "rfb":
                return self._target(self._asked("console.get_location", console, of=str))
        raise ForeignHostError(f"{vm_name} has no RFB console on {self._access.host}", "start the VM")

    def _target(self, location: str) -> ConsoleTarget:
        url = urlsplit(location)
        if url.scheme != "https" or not url.hostname:
            raise ForeignHostError(f"XAPI of {self._access.host} names a console without TLS", "update it")
        return ConsoleTarget(
            host=url.hostname,
            port=url.port or _HTTPS,
            password=None,
            transport=TargetTransport.HTTP_CONNECT,
            path=f"{url.path}?{url.query}" if url.query else url.path,
            session_id=self._session,
            transport_tls=self._access.tls,
        )

    def _asked(self, method: str, *parameters: str, of: type) -> Any:
        return self._call(method, self._session, *parameters, of=of)

    def _call(self, method: str, *parameters: str, of: type) -> Any:
        message = {"jsonrpc": "2.0", "method": method, "params": parameters, "id": 1}
        body = self._exchange("POST", "/jsonrpc", message).body
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            raise XapiError(str(body["error"].get("message", ""))[:64], method)
        result = body.get("result") if isinstance(body, dict) else None
        if not isinstance(result, of):
            raise ForeignHostError(f"{self._access.host} is no XAPI: {method} has no result", "check its url")
        return result
