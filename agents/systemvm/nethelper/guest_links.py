# SPDX-License-Identifier: Apache-2.0
"""Makes and removes the bridges of guest VLANs; `operations` decides which are allowed."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Mapping
from ipaddress import IPv4Interface

from attrs import evolve
from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from systemvm.host.bridges import HostNetwork
from systemvm.host.guest_vlans import tagged_uplink
from systemvm.nethelper.links import ensure_bridge
from systemvm.nethelper.rtnetlink import find_link, kind_of, open_netlink
from systemvm.service.unix_calls import RefusedError


def present(possible: Mapping[str, HostNetwork]) -> dict[str, HostNetwork]:
    """Return those that this host has, also in part, each with the addresses that it has there."""
    found = {}
    with open_netlink("cannot list guest VLANs") as netlink:
        names = {link.get_attr("IFLA_IFNAME"): link["index"] for link in netlink.get_links()}
        for name, network in possible.items():
            if name in names and kind_of(netlink, names[name]) == "bridge":
                found[name] = evolve(network, addresses=tuple(_addresses(netlink, names[name])))
            elif _device(network) in names:
                found[name] = evolve(network, addresses=())
    return found


def make(network: HostNetwork) -> None:
    """Make the bridge of a guest VLAN with exactly these addresses of this host, and its tagged port.

    Raises: RefusedError when netlink fails.
    """
    device = _device(network)
    if network.uplink is not None and device is not None:
        with open_netlink(f"cannot make VLAN {network.tag} on {network.uplink}") as netlink:
            _make_device(netlink, device, network.uplink, network.tag)
    ensure_bridge(evolve(network, uplink=device))
    with open_netlink(f"cannot set addresses of bridge {network.bridge}") as netlink:
        index = find_link(netlink, network.bridge)
        for each in _addresses(netlink, index) if index is not None else ():
            if each not in network.addresses:
                netlink.addr("del", index=index, address=str(each.ip), prefixlen=each.network.prefixlen)


def remove(network: HostNetwork) -> None:
    """Remove the bridge of a guest VLAN and its tagged port; do nothing when there is none."""
    with open_netlink(f"cannot remove bridge {network.bridge}") as netlink:
        for name, expected in ((network.bridge, "bridge"), (_device(network), "vlan")):
            index = None if name is None else find_link(netlink, name)
            if index is not None and kind_of(netlink, index) == expected:
                with contextlib.suppress(NetlinkError):
                    netlink.link("del", index=index)


def _device(network: HostNetwork) -> str | None:
    if network.uplink is None or network.tag is None:
        return None
    return tagged_uplink(network.uplink, network.tag)


def _make_device(netlink: IPRoute, name: str, uplink: str, vlan: int | None) -> None:
    index = find_link(netlink, uplink)
    if index is None:
        raise RefusedError(f"uplink {uplink} of VLAN {vlan} does not exist")
    if find_link(netlink, name) is not None:
        return
    try:
        netlink.link("add", ifname=name, kind="vlan", link=index, vlan_id=vlan)
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
        raise RefusedError(
            f"uplink {uplink} cannot have VLANs: this kernel has no VLAN devices (VLAN_8021Q)",
            "boot Debian's kernel, or remove uplink of this label from host.yaml",
        ) from error


def _addresses(netlink: IPRoute, index: int) -> list[IPv4Interface]:
    return [
        IPv4Interface(f"{found.get_attr('IFA_ADDRESS')}/{found['prefixlen']}")
        for found in netlink.get_addr(family=socket.AF_INET, index=index)
    ]
