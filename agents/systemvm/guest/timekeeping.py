# SPDX-License-Identifier: Apache-2.0
"""`ntpserverlist=`: whose time this machine keeps; without it the host's, by kvm-clock and the daemon.

The unit systemvm-time.service starts only where this wrote its configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address

from systemvm.guest import files
from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.guest.paths import GuestPaths

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def servers(arguments: Mapping[str, str]) -> list[str]:
    """The servers, names or addresses of either family; BootError for what is neither."""
    found = [word for word in arguments.get("ntpserverlist", "").split(",") if word]
    for word in found:
        try:
            ip_address(word)
        except ValueError as error:
            if not _NAME.fullmatch(word):
                raise boot_argument_error(
                    f"{word!r} in ntpserverlist= is neither a name nor an address"
                ) from error
    return found


def install(arguments: Mapping[str, str], paths: GuestPaths) -> None:
    names = servers(arguments)
    if names:
        text = f"[Time]\nNTP={' '.join(names)}\nFallbackNTP=\nPollIntervalMaxSec=1024\n"
        files.write(paths.time_servers, text)
    else:
        paths.time_servers.unlink(missing_ok=True)
