# SPDX-License-Identifier: Apache-2.0
"""Makes bridges and taps by netlink and TUNSETIFF; `operations` decides what is allowed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from systemvm.host.bridges import HostNetwork
from systemvm.service.unix_calls import RefusedError

TUN = Path("/dev/net/tun")
PROC = Path("/proc/sys/net")
# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
#: The VLAN of frames without a tag, in which each new port of a bridge is.
_UNTAGGED = 1
#: BRIDGE_VLAN_INFO_PVID and BRIDGE_VLAN_INFO_UNTAGGED of linux/if_bridge.h
_ACCESS_PORT = 0x0002 | 0x0004
_IFREQ = struct.Struct("16sH22x")


@contextlib.contextmanager
def _netlink(what: str) -> Iterator[IPRoute]:
    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise RefusedError(f"{what}: {error}") from error


def ensure_bridge(network: HostNetwork) -> None:
    """Make the bridge with the host's addresses and set it up.

    Raises: RefusedError when a link of another kind has its name, or netlink fails.
    """
    name = network.bridge
    with _netlink(f"cannot make bridge {name}") as netlink:
        index = _index(netlink, name)
        if index is None:
            netlink.link("add", ifname=name, kind="bridge")
            index = _index(netlink, name)
        if index is None or kind(netlink, index) != "bridge":
            raise RefusedError(f"{name} is not a bridge", "rename that interface, or the zone's bridge")
        # a fixed MAC: by default a bridge has the lowest of its ports' and changes with them
        netlink.link("set", index=index, address=_mac(name), state="up")
        for interface in network.addresses:
            try:
                netlink.addr(
                    "add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen
                )
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
        if network.vlans:
            _filter_vlans(netlink, index, name)
        if network.uplink is not None:
            uplink = _index(netlink, network.uplink)
            if uplink is None:
                raise RefusedError(f"uplink {network.uplink} of bridge {name} does not exist")
            netlink.link("set", index=uplink, master=index, state="up")
            for vlan in sorted(network.vlans):
                netlink.vlan_filter("add", index=uplink, vlan_info={"vid": vlan})
    # strict about the bridge's own addresses in ARP, too; CAP_NET_ADMIN allows to write these
    for key, value in (("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "1")):
        (PROC / "ipv4" / "conf" / name / key).write_text(value)


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
    with _netlink(f"cannot make tap {name} on {bridge}") as netlink:
        master = _index(netlink, bridge)
        if master is None:
            raise RefusedError(
                f"bridge {bridge} for tap {name} does not exist", "check the bridges in the zone's file"
            )
        _remove(netlink, name)
        try:
            descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise RefusedError(f"cannot open {TUN}: {error.strerror}", 'run "modprobe tun"') from error
        try:
            fcntl.ioctl(
                descriptor, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
            )
            index = _index(netlink, name)
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


def remove_tap(name: str) -> None:
    """Remove a tap; do nothing when it does not exist.

    Raises: RefusedError when the link is not a tap.
    """
    with _netlink(f"cannot remove tap {name}") as netlink:
        _remove(netlink, name)


def ports() -> dict[str, dict[str, object]]:
    """Return every port of a bridge, with the bridge's name and whether the port is isolated."""
    with _netlink("cannot list links") as netlink:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
        found: dict[str, dict[str, object]] = {}
        for link in netlink.get_links():
            master = link.get_attr("IFLA_MASTER")
            if master is None or kind(netlink, master) != "bridge":
                continue
            data = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")
            isolated = bool(data and data.get_attr("IFLA_BRPORT_ISOLATED"))
            found[names[link["index"]]] = {"bridge": names[master], "isolated": isolated}
        return found


def kind(netlink: IPRoute, index: int) -> str | None:
    """Return `bridge`, `tun`, `veth`, …; None for a hardware device."""
    [link] = netlink.get_links(index)
    found: str | None = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
    return found


def _remove(netlink: IPRoute, name: str) -> None:
    index = _index(netlink, name)
    if index is None:
        return
    if kind(netlink, index) != "tun":
        raise RefusedError(f"{name} is not a tap")
    with contextlib.suppress(NetlinkError):
        netlink.link("del", index=index)


def _index(netlink: IPRoute, name: str) -> int | None:
    found = netlink.link_lookup(ifname=name)
    return found[0] if found else None


def _mac(bridge: str) -> str:
    """Return a locally administered MAC that depends only on the bridge's name."""
    digest = hashlib.sha256(bridge.encode()).digest()
    return "0a:" + digest[:5].hex(":")
