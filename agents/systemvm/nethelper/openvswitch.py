# SPDX-License-Identifier: Apache-2.0
"""Makes bridges of Open vSwitch and connects taps with them; `operations` decides what is allowed."""

from __future__ import annotations

import contextlib
import os

from systemvm.host.bridges import Datapath, HostNetwork
from systemvm.nethelper import hybrid_plug, links
from systemvm.nethelper.hybrid_plug import HybridPlug
from systemvm.nethelper.ovsdb import Ovsdb
from systemvm.nethelper.rtnetlink import find_link, kind_of, open_netlink
from systemvm.service.unix_calls import RefusedError


class OpenVSwitch:
    """The Open vSwitch of this host."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        self._ovsdb = ovsdb

    def ensure_bridge(self, network: HostNetwork) -> Datapath:
        """Make the bridge if it is missing, with uplink and the host's addresses; return its datapath.

        Raises: RefusedError when this host lacks what the bridge needs.
        """
        name = network.bridge
        with open_netlink(f"cannot make bridge {name}") as netlink:
            index = find_link(netlink, name)
            if index is not None and kind_of(netlink, index) == "bridge":
                raise RefusedError(
                    f"{name} is a Linux bridge",
                    f'run "ip link del {name}" when no VM uses it, or remove kind of its label in host.yaml',
                )
            datapath = self._ovsdb.datapath_of(name)
            if datapath is None:
                datapath = network.datapath or Datapath.SYSTEM
                self._ovsdb.add_bridge(name, datapath, links.mac_of(name))
                if find_link(netlink, name) is None:
                    self._ovsdb.remove_bridge(name)
            elif network.datapath not in (None, datapath):
                raise RefusedError(
                    f"bridge {name} has datapath {datapath.value}, not {network.datapath.value}",
                    "correct datapath of its label in host.yaml, or remove it there",
                )
            index = find_link(netlink, name)
            if index is None:
                raise RefusedError(
                    f"Open vSwitch cannot make bridge {name} with datapath {datapath.value}", _HINTS[datapath]
                )
            if network.uplink is not None:
                uplink = links.find_uplink(netlink, network)
                if datapath is Datapath.NETDEV:
                    hybrid_plug.carry_only(netlink, network.uplink)
                netlink.link("set", index=uplink, state="up")
                self._ovsdb.set_uplink(name, network.uplink, network.vlans)
            links.set_addresses(netlink, index, network)
        return datapath

    def make_tap(self, name: str, network: HostNetwork, *, isolated: bool, vlan: int | None) -> int:
        """Make a tap and connect it, and return its descriptor; what ended taps have left is removed.

        Raises: RefusedError when it cannot be; nothing is left then.
        """
        links.remove_tap(name)
        self.disconnect(name)
        self.sweep()
        plug = HybridPlug(name)
        datapath = self.ensure_bridge(network)
        descriptor: int | None = None
        try:
            hybrid_plug.make(plug, whole_frames=datapath is Datapath.NETDEV)
            descriptor = links.make_tap(name, plug.bridge, isolated=False)
            # last, so that no frame passes before it is filtered
            self._ovsdb.add_access_port(network.bridge, plug.far, vlan=vlan, isolated=isolated, tap=name)
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            hybrid_plug.remove(plug)
            raise
        return descriptor

    def disconnect(self, tap: str) -> None:
        """Remove what connects a tap that has ended; do nothing when there is nothing."""
        plug = HybridPlug(tap)
        if hybrid_plug.remove(plug):
            # a port without links harms nobody, and `sweep` removes it
            with contextlib.suppress(RefusedError):
                self._ovsdb.remove_port(plug.far)

    def sweep(self) -> None:
        """Remove what is left of taps that have ended with their machines, or with the host."""
        present = links.taps()
        for tap in hybrid_plug.existing() - present:
            self.disconnect(tap)
        for tap in self._ovsdb.tap_ports().keys() - present:
            self._ovsdb.remove_port(HybridPlug(tap).far)

    def ports(self) -> dict[str, dict[str, object]]:
        """Return the port of each tap in the form of `links.ports`."""
        return {
            tap: {"bridge": port.bridge, "isolated": port.is_isolated}
            for tap, port in self._ovsdb.tap_ports().items()
        }


_HINTS = {
    Datapath.SYSTEM: 'run "modprobe openvswitch", or set datapath: netdev of its label in host.yaml',
    Datapath.NETDEV: 'run "modprobe tun", and read the log of ovs-vswitchd',
}
