# SPDX-License-Identifier: Apache-2.0
"""The parameters of runDiagnostics: one rule for the API, which rejects early, and for the guest."""

from __future__ import annotations

import re
from ipaddress import ip_address

from systemvm.service.errors import FailureCode, SystemVmError

#: CloudStack's types (reference 1.16).
TYPES = ("ping", "ping6", "traceroute", "traceroute6", "arping")
#: CloudStack's own rule: word characters, dash, blank, dot.
_PARAMS = re.compile(r"[\w\-\s.]*")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?")


class DiagnosticsRequestError(SystemVmError):
    """The parameters of runDiagnostics are invalid."""

    code = FailureCode.INVALID


def check(address: str, params: str) -> None:
    """Reject an address or parameters that could be an option or a command.

    Raises: DiagnosticsRequestError when one of them is invalid.
    """
    if not _PARAMS.fullmatch(params):
        raise DiagnosticsRequestError(
            "params must only contain letters, digits, dashes, dots and blanks", parameter="params"
        )
    try:
        ip_address(address)
    except ValueError:
        if not _HOST.fullmatch(address):
            raise DiagnosticsRequestError(
                f"address must be an IP address or a host name: {address!r}",
                parameter="ipaddress",
            ) from None
