# SPDX-License-Identifier: Apache-2.0
"""The options of nfs(5) that an operator can choose for a store; all others are the SSVM's own."""

from __future__ import annotations

import re

#: Options without a value.
FLAGS = frozenset(
    {"nolock", "lock", "hard", "soft", "softerr", "rdirplus", "nordirplus", "sharecache", "nosharecache"}
)
#: Options with a whole number.
NUMBERS = frozenset(
    {"timeo", "retrans", "rsize", "wsize", "nconnect", "port", "mountport", "actimeo", "acregmin", "acregmax"}
)
#: Options with one of a few words.
WORDS = {"mountproto": frozenset({"tcp", "udp"}), "lookupcache": frozenset({"all", "none", "pos"})}
MAX_LENGTH = 1024
_NUMBER = re.compile(r"[0-9]{1,10}")


def parse_mount_options(text: str) -> list[str]:
    """Return the options of a text with commas.

    >>> parse_mount_options("nolock, nconnect=4")
    ['nolock', 'nconnect=4']

    Raises: ValueError for an option that a store must not have.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"mount options are too long: {len(text)} characters, the maximum is {MAX_LENGTH}")
    found: list[str] = []
    for option in filter(None, map(str.strip, text.split(","))):
        name, equals, value = option.partition("=")
        if not (
            (name in FLAGS and not equals)
            or (name in NUMBERS and _NUMBER.fullmatch(value))
            or value in WORDS.get(name, ())
        ):
            known = ", ".join(sorted({*FLAGS, *(f"{each}=" for each in (*NUMBERS, *WORDS))}))
            raise ValueError(f"mount option {option[:80]!r} is not supported; use some of {known}")
        found.append(option)
    return found


def option_name(option: str) -> str:
    """Return an option without its value: a later option of the same name replaces an earlier one."""
    return option.partition("=")[0]


def transport(server: str) -> str:
    """Return the option for the transport to the address of a server.

    To mount.nfs `tcp` is IPv4 only (nfs(5)): with it, an address of IPv6 cannot be resolved.
    """
    return "proto=tcp6" if ":" in server else "proto=tcp"
