# SPDX-License-Identifier: Apache-2.0
"""What Linux's own programs answer inside a guest: `systemctl show`, `ip`, and bash that opens a port.

Their texts are all that there is, and they are not ours to change: this module matches them, and no other of
the diagnosis does. With LC_ALL=C they are in English.
"""

from __future__ import annotations

import enum
import re

TIMEOUT_EXIT_CODE = 124  # of timeout(1)


class DialResult(enum.Enum):
    """What became of a TCP connection that bash tried to open."""

    CONNECTED = "connected"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NO_ANSWER = "no answer"
    UNKNOWN = "unknown"


def properties(text: str) -> dict[str, str]:
    """The output of `systemctl show`."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value for key, equals, value in pairs if equals}


def is_masked(unit: dict[str, str]) -> bool:
    """Whether a unit with these properties is masked, for good or until the next boot."""
    return unit.get("LoadState") == "masked" or unit.get("UnitFileState", "").startswith("masked")


def link_states(text: str) -> dict[str, str]:
    """The state (UP, DOWN, UNKNOWN) of each device, from `ip -brief address show`."""
    words = [line.split() for line in text.splitlines()]
    return {line[0].partition("@")[0]: line[1] if len(line) > 1 else "" for line in words if line}


def route_device(text: str) -> str | None:
    """The device that `ip route get` leads to."""
    match = re.search(r"\bdev (\S+)", text)
    return None if match is None else match[1]


def has_no_route(text: str) -> bool:
    """Whether `ip route get` failed because there is no route, or one that forbids."""
    return "unreachable" in text or "prohibit" in text


def dial_result(text: str, exit_code: int) -> DialResult:
    """What `timeout … bash -c 'exec 3<>/dev/tcp/ADDRESS/PORT'` found.

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
