# SPDX-License-Identifier: Apache-2.0
"""XenServer and XCP-ng, by XAPI's JSON-RPC (`/jsonrpc`, XenServer 7.3 and later): VMs and their consoles.

A console is reached by CONNECT with the cookie of a session, which must live as long as nobody has connected:
one session is kept for a host, and replaced when XAPI has ended it.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from typing import Any, cast
from urllib.parse import urlsplit

from systemvm.management.foreign_hosts.access import ApiExchange, HostAccess
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.inventory import (
    HostInventory,
    HostMachine,
    HostPower,
    shown_name,
    whole_number,
)
from systemvm.wire.console import ConsoleTarget, TargetTls, TargetTransport

_INVALID_SESSION = "SESSION_INVALID"
_HTTPS = 443
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_USERS_VMS = 'field "is_a_template" = "false" and field "is_control_domain" = "false"'
#: Everything else is off.
_POWER = {"Running": HostPower.ON, "Paused": HostPower.ON, "Suspended": HostPower.SUSPENDED}

_FAULTS = {
    "SESSION_AUTHENTICATION_FAILED": (ApiFault.LOGIN_REFUSED, "correct username and password"),
    "RBAC_PERMISSION_DENIED": (ApiFault.FORBIDDEN, "give the account a role that reads VMs and consoles"),
    "HANDLE_INVALID": (ApiFault.NO_SCREEN, "the VM was deleted on its host"),
    "UUID_INVALID": (ApiFault.NO_SCREEN, "the VM was deleted on its host"),
}


class XapiError(ForeignHostError):
    """An error of XAPI; `reason` is its code."""

    def __init__(self, reason: str, method: str, host: str, master: str = "") -> None:
        fault, hint = _FAULTS.get(reason, (ApiFault.NOT_AN_API, "see the host's log"))
        if reason == "HOST_IS_SLAVE":
            fault = ApiFault.NOT_THE_MASTER
            hint = f"register the master of its pool instead{f': {master}' if master else ''}"
        super().__init__(f"{host} refused {method}: {reason}", hint, fault)
        self.reason = reason


class XapiHost:
    """One host or pool; for one thread at a time."""

    def __init__(self, access: HostAccess, exchange: ApiExchange) -> None:
        self._access = access
        self._exchange = exchange
        self._session = ""

    def inventory(self) -> HostInventory:
        """Return the pool's hosts and VMs.

        Raises: ForeignHostError when it cannot be reached, or answers something else.
        """
        hosts = self._records("host.get_all_records")
        machines = self._records("VM.get_all_records_where", _USERS_VMS)
        found = [_machine(record) for record in machines]
        versions = [record.get("software_version") for record in hosts]
        version = next((each for each in versions if isinstance(each, dict)), {})
        words = (str(version.get(key, ""))[:20] for key in ("product_brand", "product_version"))
        return HostInventory(
            machines=[each for each in found if each is not None],
            addresses=[str(record["address"]) for record in hosts if record.get("address")],
            version=" ".join(word for word in words if word),
        )

    def target(self, reference: str) -> ConsoleTarget:
        """Return the console of the VM with this UUID.

        Raises: ForeignHostError when there is none, or the host cannot be reached.
        """
        machine = self._asked("VM.get_by_uuid", reference, of=str)
        for console in self._asked("VM.get_consoles", machine, of=list):
            if self._asked("console.get_protocol", console, of=str) == "rfb":
                location = self._asked("console.get_location", console, of=str)
                return self._target(location, self._tls_of(machine))
        raise ForeignHostError(
            f"VM has no RFB console on {self._access.host}", "start the VM", ApiFault.NO_SCREEN
        )

    def _tls_of(self, machine: str) -> TargetTls:
        """Return how the host that the VM runs on is verified: each of a pool has a certificate of its own.

        The master, which is verified, vouches for the others.
        """
        try:
            resident = self._asked("VM.get_resident_on", machine, of=str)
            pem = self._asked("host.get_server_certificate", resident, of=str)
            der = ssl.PEM_cert_to_DER_cert(pem.strip())
        except (XapiError, ValueError):
            return self._access.tls
        return TargetTls(fingerprint=hashlib.sha256(der).hexdigest())

    def _target(self, location: str, tls: TargetTls) -> ConsoleTarget:
        try:
            url = urlsplit(location)
            host, port = url.hostname, url.port or _HTTPS
        except ValueError:
            url, host, port = urlsplit(""), None, 0
        if url.scheme != "https" or not host:
            raise ForeignHostError(
                f"XAPI of {self._access.host} names a console without TLS", "update it", ApiFault.NO_SCREEN
            )
        return ConsoleTarget(
            host=host,
            port=port,
            password=None,
            transport=TargetTransport.HTTP_CONNECT,
            path=f"{url.path}?{url.query}" if url.query else url.path,
            session_id=self._session,
            transport_tls=tls,
        )

    def _records(self, method: str, *parameters: str) -> list[dict[str, Any]]:
        records = self._asked(method, *parameters, of=dict).values()
        return [record for record in records if isinstance(record, dict)]

    def _asked(self, method: str, *parameters: str, of: type) -> Any:
        """Call a method within the session, which is opened again when XAPI has ended it."""
        if self._session:
            try:
                return self._call(method, self._session, *parameters, of=of)
            except XapiError as error:
                if error.reason != _INVALID_SESSION:
                    raise
        login = [self._access.username, self._access.password, "1.0", "systemvm"]
        self._session = cast(str, self._call("session.login_with_password", *login, of=str))
        return self._call(method, self._session, *parameters, of=of)

    def _call(self, method: str, *parameters: str, of: type) -> Any:
        message = {"jsonrpc": "2.0", "method": method, "params": parameters, "id": 1}
        body = self._exchange("POST", "/jsonrpc", message).body
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            raise self._refusal(body["error"], method)
        result = body.get("result") if isinstance(body, dict) else None
        if not isinstance(result, of):
            raise ForeignHostError(f"{self._access.host} is no XAPI: {method} has no result", "check its url")
        return result

    def _refusal(self, error: dict[str, Any], method: str) -> XapiError:
        found = _CODE.fullmatch(str(error.get("message", "")))
        data = error.get("data")
        master = str(data[0])[:64] if isinstance(data, list) and data else ""
        address = master if re.fullmatch(r"[0-9a-fA-F:.]+", master) else ""
        return XapiError(found[0] if found else "unknown error", method, self._access.host, address)


def _machine(record: dict[str, Any]) -> HostMachine | None:
    reference = str(record.get("uuid", ""))
    if not _UUID.fullmatch(reference) or record.get("is_a_snapshot") is True:
        return None
    return HostMachine(
        reference=reference,
        name=shown_name(record.get("name_label", ""), reference),
        power=_POWER.get(str(record.get("power_state")), HostPower.OFF),
        vcpus=whole_number(record.get("VCPUs_max")),
        memory_mib=whole_number(record.get("memory_static_max")) >> 20,
    )
