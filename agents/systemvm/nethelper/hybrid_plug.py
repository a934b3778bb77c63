# SPDX-License-Identifier: Apache-2.0
"""Links between a tap and a port of Open vSwitch: a Linux bridge of the tap's own, and a veth.

OpenStack calls this a hybrid plug. nftables' bridge family sees no port of Open vSwitch; on the small bridge
the port filter (`host/guest_filter.py`) holds, whatever datapath is behind it.
"""

from __future__ import annotations

import ctypes
import fcntl
import re
import socket
import struct

from attrs import frozen
from pyroute2.iproute.linux import IPRoute

from systemvm.host.firewall import CARRIER_GROUP
from systemvm.nethelper.links import PROC, disable_ipv6
from systemvm.nethelper.rtnetlink import find_link, open_netlink, remove_link
from systemvm.service.unix_calls import RefusedError

_BRIDGE = re.compile(r"b([0-9a-f]{10}-[0-9]{1,2})")
# linux/sockios.h, linux/ethtool.h
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
#: "Do not reply for all local addresses" (ip-sysctl).
_ANSWER_NOTHING = "8"


@frozen
class HybridPlug:
    """The names of a tap's links, which differ from the tap's in the first letter."""

    tap: str

    @property
    def bridge(self) -> str:
        return "b" + self.tap[1:]

    @property
    def near(self) -> str:
        """The end of the veth in the small bridge."""
        return "v" + self.tap[1:]

    @property
    def far(self) -> str:
        """The end of the veth that is a port of Open vSwitch."""
        return "o" + self.tap[1:]


def make(plug: HybridPlug, *, whole_frames: bool) -> None:
    """Make the small bridge and the veth and set them up; the tap is put into the bridge afterwards.

    `whole_frames` has the kernel compute checksums and cut large segments, which VMs leave to a device: a
    program that reads the far end would drop them.
    """
    with open_netlink(f"cannot make bridge {plug.bridge}") as netlink:
        netlink.link("add", ifname=plug.bridge, kind="bridge")
        netlink.link("add", ifname=plug.near, kind="veth", peer={"ifname": plug.far})
        indexes = [carry_only(netlink, name) for name in (plug.bridge, plug.near, plug.far)]
        if whole_frames:
            compute_checksums(plug.near)
        netlink.link("set", index=indexes[1], master=indexes[0])
        for index in indexes:
            netlink.link("set", index=index, state="up")


def remove(plug: HybridPlug) -> bool:
    """Remove the links; return whether there were any.

    Raises: RefusedError when an interface of others has one of the names.
    """
    found = False
    with open_netlink(f"cannot remove bridge {plug.bridge}") as netlink:
        for name, kind in ((plug.near, "veth"), (plug.bridge, "bridge")):
            index = find_link(netlink, name)
            if index is None:
                continue
            [link] = netlink.get_links(index)
            if link.get_attr("IFLA_GROUP") != CARRIER_GROUP:
                raise RefusedError(f"{name} was not made by this helper", "rename that interface")
            remove_link(netlink, name, kind)
            found = True
    return found


def existing() -> set[str]:
    """Return the taps that have a small bridge, whether they exist or not."""
    with open_netlink("cannot list links") as netlink:
        bridges = [link for link in netlink.get_links() if link.get_attr("IFLA_GROUP") == CARRIER_GROUP]
        found = [_BRIDGE.fullmatch(link.get_attr("IFLA_IFNAME")) for link in bridges]
        return {f"t{match[1]}" for match in found if match}


def carry_only(netlink: IPRoute, name: str) -> int:
    """Have a link carry frames of others only, never reach this host by itself; return its index."""
    index = find_link(netlink, name)
    if index is None:
        raise RefusedError(f"{name} does not exist")
    netlink.link("set", index=index, group=CARRIER_GROUP)
    (PROC / "ipv4" / "conf" / name / "arp_ignore").write_text(_ANSWER_NOTHING)
    disable_ipv6(name)
    return index


def compute_checksums(name: str) -> None:
    """Have the kernel compute checksums and cut segments before a link sends them."""
    off = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(off))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
