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
from pyroute2.netlink import nlmsg
from pyroute2.netlink.exceptions import NetlinkError

from systemvm.host.bridges import GUEST_TRAFFIC, HostNetwork
from systemvm.host.firewall import GUEST_LINK_GROUP
from systemvm.host.guest_vlans import tagged_uplink
from systemvm.nethelper.links import ensure_bridge
from systemvm.nethelper.rtnetlink import find_link, kind_of, open_netlink
from systemvm.service.unix_calls import RefusedError


def present(possible: Mapping[str, HostNetwork]) -> dict[str, HostNetwork]:
    """Return those that this host has, also in part, each with the addresses that it has there.

    These are also those that root's files do not permit any more, known by their group.
    """
    found = {}
    with open_netlink("cannot list guest VLANs") as netlink:
        links = netlink.get_links()
        names = {link.get_attr("IFLA_IFNAME"): link["index"] for link in links}
        for name in (link.get_attr("IFLA_IFNAME") for link in links if _is_marked(link)):
            if name not in possible and kind_of(netlink, names[name]) == "bridge":
                addresses = tuple(_addresses(netlink, names[name]))
                found[name] = HostNetwork(name, (GUEST_TRAFFIC,), addresses)
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
    with open_netlink(f"cannot make bridge {network.bridge}") as netlink:
        bridge = _make_bridge(netlink, network.bridge)
    if network.uplink is not None and device is not None:
        with open_netlink(f"cannot make VLAN {network.tag} on {network.uplink}") as netlink:
            _make_device(netlink, device, network.uplink, network.tag, bridge)
    ensure_bridge(evolve(network, uplink=device))
    with open_netlink(f"cannot set addresses of bridge {network.bridge}") as netlink:
        index = find_link(netlink, network.bridge)
        for each in _addresses(netlink, index) if index is not None else ():
            if each not in network.addresses:
                netlink.addr("del", index=index, address=str(each.ip), prefixlen=each.network.prefixlen)


def remove(network: HostNetwork) -> None:
    """Remove the bridge of a guest VLAN and its tagged port; do nothing when there is none."""
    with open_netlink(f"cannot remove bridge {network.bridge}") as netlink:
        bridge, device = find_link(netlink, network.bridge), _device(network)
        # the bridge last, by which the next call finds what is left
        removed = [
            link["index"]
            for link in netlink.get_links()
            if (bridge is not None and link.get_attr("IFLA_MASTER") == bridge and _is_marked(link))
            or (link.get_attr("IFLA_IFNAME") == device and kind_of(netlink, link["index"]) == "vlan")
        ]
        if bridge is not None and kind_of(netlink, bridge) == "bridge":
            removed.append(bridge)
        for index in removed:
            with contextlib.suppress(NetlinkError):
                netlink.link("del", index=index)


def _is_marked(link: nlmsg) -> bool:
    return bool(link.get_attr("IFLA_GROUP") == GUEST_LINK_GROUP)


def _device(network: HostNetwork) -> str | None:
    if network.uplink is None or network.tag is None:
        return None
    return tagged_uplink(network.uplink, network.tag)


def _make_bridge(netlink: IPRoute, name: str) -> int:
    """Make a bridge, down, that has its mark from the begin; return its index."""
    index = find_link(netlink, name)
    if index is None:
        netlink.link("add", ifname=name, kind="bridge", group=GUEST_LINK_GROUP)
        index = find_link(netlink, name)
    if index is None or kind_of(netlink, index) != "bridge":
        raise RefusedError(f"{name} is not a bridge", "rename that interface, or the bridge of its label")
    netlink.link("set", index=index, group=GUEST_LINK_GROUP)  # of an earlier release
    return index


def _make_device(netlink: IPRoute, name: str, uplink: str, vlan: int | None, bridge: int) -> None:
    index = find_link(netlink, uplink)
    if index is None:
        raise RefusedError(f"uplink {uplink} of VLAN {vlan} does not exist")
    device = find_link(netlink, name)
    if device is not None:
        netlink.link("set", index=device, group=GUEST_LINK_GROUP)
        return
    try:
        netlink.link(
            "add", ifname=name, kind="vlan", link=index, vlan_id=vlan, master=bridge, group=GUEST_LINK_GROUP
        )
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
