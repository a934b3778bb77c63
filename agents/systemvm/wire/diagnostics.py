# SPDX-License-Identifier: Apache-2.0
"""What runDiagnostics may be asked: one rule for the API, which refuses early, and the guest, which runs."""

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


class DiagnosisError(SystemVmError):
    """What was asked for cannot be run; the message says what is wrong with it."""

    code = FailureCode.INVALID


def check(address: str, params: str) -> None:
    """DiagnosisError for an address or parameters that could be something else: an option, a command."""
    if not _PARAMS.fullmatch(params):
        raise DiagnosisError("params may hold nothing but letters, digits, dashes, dots and blanks")
    try:
        ip_address(address)
    except ValueError:
        if not _HOST.fullmatch(address):
            raise DiagnosisError(f"{address!r} is neither an address nor a host name") from None
