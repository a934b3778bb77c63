# SPDX-License-Identifier: Apache-2.0
"""Shared guest networks in a VLAN of the label: made by administrators, with the ranges of their own."""

from __future__ import annotations

import pytest
import pytest_twisted

from account_networks import (
    SUBNETS,
    VLANS,
    change_label,
    create_network,
    deploy_on,
    guest_traffic,
    nic_of,
    vm_of,
)
from small_cloud import SmallCloud
from systemvm.host.guest_vlans import GuestLink
from systemvm.management.zone_model.refusals import ModelError

SHARED = {"gateway": "10.20.0.1", "netmask": "255.255.255.0", "startip": "10.20.0.10", "endip": "10.20.0.20"}


@pytest.fixture
def cloud(cloud: SmallCloud) -> SmallCloud:
    change_label(cloud, **VLANS, **SUBNETS)
    return cloud


@pytest_twisted.ensureDeferred
async def test_a_shared_network_is_in_a_vlan_of_the_label(cloud: SmallCloud) -> None:
    network = await create_network(cloud, "shared", cloud.admin, vlan="200", **SHARED)
    assert (network["type"], network["state"], network["vlan"]) == ("Shared", "Setup", "200")
    vm = vm_of(cloud, await deploy_on(cloud, "web", network))
    assert nic_of(cloud, vm).bridge == "cloudbr3-200"
    assert cloud.guest_services.links == [GuestLink("cloudbr3", 200)]
    [bridge] = cloud.guest_services.served[-1]
    assert bridge.bridge == "cloudbr3-200"
    assert [guest.has_router for subnet in bridge.subnets for guest in subnet.guests] == [True]
    # a further range of the network is in the same VLAN
    more = SHARED | {"startip": "10.20.0.30", "endip": "10.20.0.40"}
    place = {"zoneid": cloud.zone.uuid, "forvirtualnetwork": "false"}
    await cloud.call("createVlanIpRange", vlan="200", **place, **more)
    with pytest.raises(ModelError, match="is in VLAN 200"):
        await cloud.call(
            "createVlanIpRange", **place, **more | {"startip": "10.20.0.50", "endip": "10.20.0.60"}
        )
    # its label stays, and the VLAN is its own
    guest = (await guest_traffic(cloud))["id"]
    types = (await cloud.call("listTrafficTypes", physicalnetworkid=guest))["traffictype"]
    for label in ("", "cloudbr3"):  # of the network's name, and the same one by itself
        job = await cloud.job(
            "updateTrafficType", id=types[0]["id"], kvmnetworklabel=label, xennetworklabel="xen"
        )
        assert job.result_code == 0, job.result
    job = await cloud.job("updateTrafficType", id=types[0]["id"], kvmnetworklabel="cloudbr0")
    assert "1 network: shared in VLANs of it" in str(job.result)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vlan": "300"}, "is not a VLAN of label cloudbr3"),
        ({"vlan": "100"}, "no address in 10.20.0.0/24 on VLAN 100"),
        ({"startip": "10.20.0.2"}, "own address 10.20.0.2"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_vlan_in_which_this_host_cannot_serve_is_refused(
    cloud: SmallCloud, change: dict[str, str], why: str
) -> None:
    with pytest.raises(ModelError, match=why):
        await create_network(cloud, "shared", cloud.admin, **{"vlan": "200"} | SHARED | change)
    place = {"zoneid": cloud.zone.uuid, "forvirtualnetwork": "false", "vlan": "200"}
    with pytest.raises(ModelError, match="create the network with createNetwork first"):
        await cloud.call("createVlanIpRange", **place, **SHARED)
