# SPDX-License-Identifier: Apache-2.0
"""Kernel settings of each NIC, before it is up.

sysctl.d's `all` and `default` come too late: the NICs are there before systemd is, and of IPv6 the kernel
copies neither to a NIC that exists. Without this, whoever sends router advertisements gives addresses to us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from systemvm.guest.paths import GuestPaths

_PER_NIC = {
    "ipv6/conf/{}/accept_ra": "0",
    "ipv6/conf/{}/autoconf": "0",
    "ipv6/conf/{}/accept_redirects": "0",
    "ipv4/conf/{}/accept_redirects": "0",
}


def settings(devices: Iterable[str], arguments: Mapping[str, str]) -> dict[str, str]:
    """What to write to which file below /proc/sys/net."""
    names = list(devices)
    wanted = {path.format(name): value for name in names for path, value in _PER_NIC.items()}
    if arguments.get("disable_rp_filter") == "true":
        # the stricter of `all` and the NIC's own counts
        wanted |= {f"ipv4/conf/{name}/rp_filter": "0" for name in ["all", "default", *names]}
    return wanted


def apply(wanted: Mapping[str, str], paths: GuestPaths) -> None:
    """Settings that this kernel does not have (IPv6 off) are left out."""
    for path, value in wanted.items():
        file = paths.root / "proc/sys/net" / path
        if file.exists():
            file.write_text(value)
