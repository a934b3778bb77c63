# SPDX-License-Identifier: Apache-2.0
"""Parses the output of Linux programs in a guest: `systemctl show`, `ip`, and bash that opens a port.

These programs have no machine-readable output for this; only this module of the diagnosis matches their
texts, which are English with LC_ALL=C.
"""

from __future__ import annotations

import enum
import re

TIMEOUT_EXIT_CODE = 124  # of timeout(1)


class DialResult(enum.Enum):
    """The result of a TCP connection that bash tried to open."""

    CONNECTED = "connected"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NO_ANSWER = "no answer"
    UNKNOWN = "unknown"


def properties(text: str) -> dict[str, str]:
    """Return the output of `systemctl show` as a mapping."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value for key, equals, value in pairs if equals}


def is_masked(unit: dict[str, str]) -> bool:
    """Return whether a unit with these properties is masked, permanently or until the next boot."""
    return unit.get("LoadState") == "masked" or unit.get("UnitFileState", "").startswith("masked")


def link_states(text: str) -> dict[str, str]:
    """Return the state (UP, DOWN, UNKNOWN) of each device from `ip -brief address show`."""
    rows = [line.split() for line in text.splitlines()]
    return {line[0].partition("@")[0]: line[1] if len(line) > 1 else "" for line in rows if line}


def route_device(text: str) -> str | None:
    """Return the device of the route from `ip route get`, or None."""
    match = re.search(r"\bdev (\S+)", text)
    return None if match is None else match[1]


def has_no_route(text: str) -> bool:
    """Return whether `ip route get` failed for want of a route, or because of a prohibiting one."""
    return "unreachable" in text or "prohibit" in text


def dial_result(text: str, exit_code: int) -> DialResult:
    """Return the result of `timeout … bash -c 'exec 3<>/dev/tcp/ADDRESS/PORT'`.

    >>> dial_result("bash: connect: Connection refused", 1), dial_result("", 124)
    (<DialResult.REFUSED: 'refused'>, <DialResult.NO_ANSWER: 'no answer'>)
    """
    if exit_code == 0:
        return DialResult.CONNECTED
    if "Connection refused" in text:
        return DialResult.REFUSED
    if "No route to host" in text or "unreachable" in text.lower():
        return DialResult.UNREACHABLE
    return DialResult.NO_ANSWER if exit_code == TIMEOUT_EXIT_CODE else DialResult.UNKNOWN
