# SPDX-License-Identifier: Apache-2.0
"""Kernel settings of each NIC, written before it is up.

`all` and `default` in sysctl.d come too late: the NICs exist before systemd starts, and for IPv6 the kernel
does not copy them to existing NICs. Without these settings anyone who sends router advertisements could
assign addresses to the VM.
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
    """Return the values to write, by path below /proc/sys/net."""
    names = list(devices)
    wanted = {path.format(name): value for name in names for path, value in _PER_NIC.items()}
    if arguments.get("disable_rp_filter") == "true":
        # the kernel uses the stricter of `all` and the NIC's value
        wanted |= {f"ipv4/conf/{name}/rp_filter": "0" for name in ["all", "default", *names]}
    return wanted


def apply(wanted: Mapping[str, str], paths: GuestPaths) -> None:
    """Write the settings; those that the kernel does not have (IPv6 disabled) are skipped."""
    for path, value in wanted.items():
        file = paths.root / "proc/sys/net" / path
        if file.exists():
            file.write_text(value)
