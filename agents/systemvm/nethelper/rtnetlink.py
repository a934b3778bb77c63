# SPDX-License-Identifier: Apache-2.0
"""Finds and removes links by netlink; what fails is refused with the work that it was for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from systemvm.service.unix_calls import RefusedError

#: Kinds of links that the helper removes, and their names in messages.
_NAMES = {"tun": "a tap", "bridge": "a bridge", "veth": "a veth"}


@contextlib.contextmanager
def open_netlink(what: str) -> Iterator[IPRoute]:
    """Raises: RefusedError that begins with `what` when netlink fails."""
    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise RefusedError(f"{what}: {error}") from error


def find_link(netlink: IPRoute, name: str) -> int | None:
    """Return the index of a link; None when there is none."""
    found = netlink.link_lookup(ifname=name)
    return found[0] if found else None


def kind_of(netlink: IPRoute, index: int) -> str | None:
    """Return `bridge`, `tun`, `veth`, …; None for a hardware device."""
    [link] = netlink.get_links(index)
    found: str | None = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
    return found


def remove_link(netlink: IPRoute, name: str, kind: str = "tun") -> None:
    """Remove a link of a kind; do nothing when it does not exist.

    Raises: RefusedError when a link of another kind has its name.
    """
    index = find_link(netlink, name)
    if index is None:
        return
    if kind_of(netlink, index) != kind:
        raise RefusedError(f"{name} is not {_NAMES[kind]}")
    with contextlib.suppress(NetlinkError):
        netlink.link("del", index=index)
