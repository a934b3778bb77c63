# SPDX-License-Identifier: Apache-2.0
"""`ntpserverlist=`: the VM's time servers; without it the time comes from the host, by kvm-clock and daemon.

The unit systemvm-time.service starts only when its configuration exists.
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
    """Return the servers, which are names or addresses of either family.

    Raises: BootError when one is neither.
    """
    found = [server for server in arguments.get("ntpserverlist", "").split(",") if server]
    for server in found:
        try:
            ip_address(server)
        except ValueError as error:
            if not _NAME.fullmatch(server):
                raise boot_argument_error(
                    f"ntpserverlist= contains {server!r}, which is neither a name nor an address"
                ) from error
    return found


def install(arguments: Mapping[str, str], paths: GuestPaths) -> None:
    names = servers(arguments)
    if names:
        text = f"[Time]\nNTP={' '.join(names)}\nFallbackNTP=\nPollIntervalMaxSec=1024\n"
        files.write(paths.time_servers, text)
    else:
        paths.time_servers.unlink(missing_ok=True)
