# SPDX-License-Identifier: Apache-2.0
"""A cloud on bridges of Open vSwitch, all but that of control traffic, with `ovs-vswitchd` as datapath."""

from __future__ import annotations

from typing import Any

from openvswitch_daemons import OpenVSwitchDaemons
from systemvm.host.bridges import BridgeKind, Datapath
from systemvm.host.host_file import HostConfig, LabelConfig
from systemvm.host.zone import TrafficType
from systemvm.lab import namespaces
from systemvm.lab.cloud import Cloud
from systemvm.lab.commands import run
from systemvm.lab.plan import EXTERNAL_SERVERS, NETWORKS, LabPlan
from systemvm.nethelper import hybrid_plug


def switched(address: str, kind: str, uplink: str | None = None) -> LabelConfig:
    return LabelConfig(
        [TrafficType(kind)],
        addresses=[address],
        uplink=uplink,
        kind=BridgeKind.OPENVSWITCH,
        datapath=Datapath.NETDEV,
    )


class SwitchedCloud(Cloud):
    """Its network helper makes the bridges, and connects the lab's servers as their uplinks."""

    def __init__(self, plan: LabPlan, *, host: HostConfig, **more: Any) -> None:
        super().__init__(plan, host=host, **more)
        self._host_networks = host.networks()
        self._switch = OpenVSwitchDaemons(plan.host_namespace, plan.layout)

    def ports(self, bridge: str) -> list[str]:
        """Return the ports of a bridge, without its own."""
        return self._switch.vsctl("list-ports", bridge).split()

    def make_networks(self) -> None:
        super().make_networks()
        inside = ("ip", "-n", self.plan.host_namespace)
        for network in NETWORKS:
            if self._host_networks[network.bridge].kind is BridgeKind.OPENVSWITCH:
                run(*inside, "link", "del", network.bridge)
        for server in EXTERNAL_SERVERS:
            # as a device on a wire, which the datapath reads frames of
            namespaces.inside(self.plan.namespace_of(server), lambda: hybrid_plug.compute_checksums("eth0"))
        self._switch.start()

    def stop(self) -> None:
        super().stop()
        self._switch.stop()
