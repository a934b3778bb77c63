# SPDX-License-Identifier: Apache-2.0
"""Makes bridges and taps by netlink and TUNSETIFF; `operations` decides what is allowed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from pathlib import Path

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from systemvm.host.bridges import HostNetwork
from systemvm.host.host_file import FILE_NAME
from systemvm.nethelper.rtnetlink import find_link, kind_of, open_netlink, remove_link
from systemvm.service.unix_calls import RefusedError

TUN = Path("/dev/net/tun")
PROC = Path("/proc/sys/net")
# linux/if_tun.h
TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
#: The VLAN of frames without a tag, in which each new port of a bridge is.
_UNTAGGED = 1
#: BRIDGE_VLAN_INFO_PVID and BRIDGE_VLAN_INFO_UNTAGGED of linux/if_bridge.h
_ACCESS_PORT = 0x0002 | 0x0004
_IFREQ = struct.Struct("16sH22x")


def ensure_bridge(network: HostNetwork) -> None:
    """Make the bridge with the host's addresses and set it up.

    Raises: RefusedError when a link of another kind has its name, or netlink fails.
    """
    name = network.bridge
    with open_netlink(f"cannot make bridge {name}") as netlink:
        index = find_link(netlink, name)
        if index is None:
            netlink.link("add", ifname=name, kind="bridge")
            index = find_link(netlink, name)
        if index is None or kind_of(netlink, index) != "bridge":
            raise RefusedError(
                f"{name} is not a bridge", "rename that interface or the bridge, or correct kind of its label"
            )
        # a fixed MAC: by default a bridge has the lowest of its ports' and changes with them
        netlink.link("set", index=index, address=mac_of(name))
        if network.filtered_vlans:
            _filter_vlans(netlink, index, name)
        if network.uplink is not None:
            uplink = find_uplink(netlink, network)
            netlink.link("set", index=uplink, master=index, state="up")
            for vlan in sorted(network.filtered_vlans):
                netlink.vlan_filter("add", index=uplink, vlan_info={"vid": vlan})
        set_addresses(netlink, index, network)


def find_uplink(netlink: IPRoute, network: HostNetwork) -> int:
    """Raises: RefusedError when the host has no such interface."""
    index = find_link(netlink, network.uplink or "")
    if index is None:
        raise RefusedError(
            f"uplink {network.uplink} of bridge {network.bridge} does not exist",
            f"correct uplink of the bridge in {FILE_NAME} or the zone's file",
        )
    return index


def set_addresses(netlink: IPRoute, index: int, network: HostNetwork) -> None:
    """Set a bridge up with the host's addresses, for which it alone answers."""
    netlink.link("set", index=index, state="up")
    for interface in network.addresses:
        try:
            netlink.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
    # strict about the bridge's own addresses in ARP, too; CAP_NET_ADMIN allows to write these
    for key, value in (("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "1")):
        (PROC / "ipv4" / "conf" / network.bridge / key).write_text(value)


def _filter_vlans(netlink: IPRoute, index: int, name: str) -> None:
    """Have a bridge keep VLANs apart: from then on a port takes only frames of the VLANs that it is in.

    Ports are in VLAN 1, untagged, unless they are put into another; a tag that a VM sends itself is dropped.
    """
    try:
        netlink.link("set", index=index, kind="bridge", br_vlan_filtering=1)
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
        raise RefusedError(
            f"bridge {name} cannot have VLANs: this kernel has no VLAN filtering (BRIDGE_VLAN_FILTERING)",
            "boot Debian's kernel, or remove vlans of this label from host.yaml",
        ) from error


def make_tap(name: str, bridge: str, *, isolated: bool, vlan: int | None = None) -> int:
    """Make a tap as a port of `bridge`, set it up, and return its descriptor; it exists while that is open.

    What the VM sends and receives has no tag; beyond the port it has that of `vlan`.

    Raises: RefusedError when the bridge does not exist, or the tap cannot be made.
    """
    with open_netlink(f"cannot make tap {name} on {bridge}") as netlink:
        master = find_link(netlink, bridge)
        if master is None:
            raise RefusedError(
                f"bridge {bridge} for tap {name} does not exist", "check the bridges in the zone's file"
            )
        remove_link(netlink, name)
        try:
            descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise RefusedError(f"cannot open {TUN}: {error.strerror}", 'run "modprobe tun"') from error
        try:
            fcntl.ioctl(descriptor, TUNSETIFF, tap_request(name))
            index = find_link(netlink, name)
            disable_ipv6(name)
            netlink.link("set", index=index, master=master)
            if isolated:
                netlink.brport("set", index=index, isolated=1)
            if vlan is not None:
                netlink.vlan_filter("add", index=index, vlan_info={"vid": vlan, "flags": _ACCESS_PORT})
                netlink.vlan_filter("del", index=index, vlan_info={"vid": _UNTAGGED})
            # set up last, so that no frame passes before the port is isolated and in its VLAN
            netlink.link("set", index=index, state="up")
        except OSError as error:
            os.close(descriptor)
            raise RefusedError(f"cannot make tap {name}: {error}") from error
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def disable_ipv6(name: str) -> None:
    """Have this host use no IPv6 on a link that carries frames of others only.

    Else the kernel adds a link-local address a second or two after the link is up. Chromium on this host then
    ends all of its requests, because the host's addresses have changed (ERR_NETWORK_CHANGED).
    """
    switch = PROC / "ipv6" / "conf" / name / "disable_ipv6"
    if switch.exists():  # else the kernel has no IPv6
        switch.write_text("1")


def tap_request(name: str) -> bytes:
    """Return the argument of TUNSETIFF for a tap whose frames have a header of virtio."""
    return _IFREQ.pack(name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)


def remove_tap(name: str) -> None:
    """Remove a tap; do nothing when it does not exist.

    Raises: RefusedError when the link is not a tap.
    """
    with open_netlink(f"cannot remove tap {name}") as netlink:
        remove_link(netlink, name)


def taps() -> set[str]:
    """Return the names of all taps."""
    with open_netlink("cannot list links") as netlink:
        return {
            link.get_attr("IFLA_IFNAME")
            for link in netlink.get_links()
            if link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "tun"
        }


def ports() -> dict[str, dict[str, object]]:
    """Return every port of a bridge, with the bridge's name and whether the port is isolated."""
    with open_netlink("cannot list links") as netlink:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
        found: dict[str, dict[str, object]] = {}
        for link in netlink.get_links():
            master = link.get_attr("IFLA_MASTER")
            if master is None or kind_of(netlink, master) != "bridge":
                continue
            data = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")
            isolated = bool(data and data.get_attr("IFLA_BRPORT_ISOLATED"))
            found[names[link["index"]]] = {"bridge": names[master], "isolated": isolated}
        return found


def mac_of(bridge: str) -> str:
    """Return a locally administered MAC that depends only on the bridge's name."""
    digest = hashlib.sha256(bridge.encode()).digest()
    return "0a:" + digest[:5].hex(":")
