# SPDX-License-Identifier: Apache-2.0
"""Networks of accounts in a small cloud: isolated and L2 ones, in VLANs of the label of guest traffic."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any

from attrs import evolve

from present import present
from small_cloud import SmallCloud
from systemvm.host.zone import TrafficType
from systemvm.management.api.principal import Principal
from systemvm.management.state import instances, physical_networks
from systemvm.management.state.instances import Instance, Nic
from user_vms import deployment_parameters

if TYPE_CHECKING:
    from small_cloud.cloud import EndedJob

#: Two VLANs for networks of accounts, and one for a shared network.
VLANS: dict[str, Any] = {
    "vlans": frozenset({100, 101, 200}),
    "vlan_addresses": ((200, (IPv4Interface("10.20.0.2/24"),)),),
}
#: Isolated networks have subnets of it.
SUBNETS: dict[str, Any] = {"guest_cidr": IPv4Network("10.1.0.0/16")}


def change_label(cloud: SmallCloud, **changes: Any) -> None:
    """Change what the host's file has about the label of guest traffic."""
    labels: Any = cloud.configuration.labels
    labels["cloudbr3"] = evolve(labels["cloudbr3"], **changes)


async def guest_traffic(cloud: SmallCloud) -> dict[str, Any]:
    """Return the physical network of guest traffic."""
    networks = (await cloud.call("listPhysicalNetworks"))["physicalnetwork"]
    [found] = [network for network in networks if network["name"] == "cloudbr3"]
    return dict(found)


async def give_vlans(cloud: SmallCloud, vlans: str = "100-101") -> None:
    """Have the physical network of guest traffic give these VLANs to networks of accounts."""
    job = await cloud.job("updatePhysicalNetwork", id=(await guest_traffic(cloud))["id"], vlan=vlans)
    assert job.result_code == 0, job.result


def set_vlans(cloud: SmallCloud, vlans: str | None) -> None:
    """Write what `give_vlans` asks for, without its checks."""
    kind = TrafficType.GUEST
    network = present(cloud.database.run_now(physical_networks.network_of_traffic, cloud.zone.id, kind))
    cloud.database.run_now(physical_networks.network_rows.update, network.id, vnet=vlans)


async def create_network(
    cloud: SmallCloud, name: str, owner: Principal | None = None, **more: Any
) -> dict[str, Any]:
    """Create a network, an isolated one unless `networkofferingid` is of others."""
    answer = await cloud.call("createNetwork", owner or cloud.user, zoneid=cloud.zone.uuid, name=name, **more)
    return dict(answer["network"])


async def network_of(cloud: SmallCloud, network: dict[str, Any]) -> dict[str, Any]:
    """Return the network as an administrator sees it now."""
    [found] = (await cloud.call("listNetworks", id=network["id"]))["network"]
    return dict(found)


async def deploy_on(cloud: SmallCloud, name: str, network: dict[str, Any], **more: Any) -> EndedJob:
    template, _ = cloud.add_template(public=True)
    parameters = await deployment_parameters(cloud, template, name=name, networkids=network["id"], **more)
    return await cloud.job("deployVirtualMachine", cloud.user, **parameters)


def vm_of(cloud: SmallCloud, job: EndedJob) -> Instance:
    assert job.result_code == 0, job.result
    return cloud.database.run_now(instances.by_uuid, present(job.instance_uuid))


def nic_of(cloud: SmallCloud, vm: Instance) -> Nic:
    [nic] = cloud.database.run_now(instances.nics_of, vm.id)
    return nic
