# SPDX-License-Identifier: Apache-2.0
"""Consoles of VMs on hosts that no daemon drives: the daemon answers what the host's API says then."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred

from console_tokens import add_vm, authorize, new_token, refusal, target
from foreign_host_peers import HOST_ADDRESS, PASSWORD, USERNAME, VcenterPeer, XapiPeer
from small_cloud import SmallCloud
from systemvm.management.foreign_hosts import consoles
from systemvm.management.foreign_hosts.access import ApiExchange, ForeignHypervisor, HostAccess
from systemvm.management.foreign_hosts.consoles import ForeignConsoles
from systemvm.management.state import instances, zones
from systemvm.management.state.instances import NO_SCREEN, Instance
from systemvm.wire.console import ConsoleRefusal, TargetTls, TargetTransport
from systemvm.wire.protocol import POLICIES_SINCE

ESXI_ADDRESS = "10.11.0.43"


@pytest.fixture
def peers() -> dict[str, XapiPeer | VcenterPeer]:
    return {"xen-1": XapiPeer(), "vcenter-1": VcenterPeer()}


@pytest.fixture(autouse=True)
def foreign(
    cloud: SmallCloud, peers: dict[str, XapiPeer | VcenterPeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give the daemon access to both hosts."""
    kinds = {"xen-1": ForeignHypervisor.XENSERVER, "vcenter-1": ForeignHypervisor.VMWARE}

    def exchange(access: HostAccess) -> ApiExchange:
        return peers[access.host]

    monkeypatch.setattr(consoles, "deferToThread", maybeDeferred)
    cloud.authorizer._foreign = ForeignConsoles(
        {
            name: HostAccess(kind, f"https://{name}", USERNAME, PASSWORD, TargetTls(ca_pem="CA"))
            for name, kind in kinds.items()
        },
        exchange,
        {"esxi-3.example.test": ESXI_ADDRESS}.__getitem__,
    )


def vm_on(cloud: SmallCloud, host_name: str, hypervisor: str) -> Instance:
    vm = add_vm(cloud, "foreign", 5907)
    host = cloud.database.run_now(
        zones.host_rows.insert, name=host_name, hypervisor=hypervisor, zone_id=cloud.zone.id
    )
    changes = {"hypervisor": hypervisor, "host_id": host.id, "instance_name": "i-2-7-VM", **NO_SCREEN}
    cloud.database.run_now(instances.update, vm.id, **changes)
    return cloud.database.run_now(instances.by_id, vm.id)


@pytest_twisted.ensureDeferred
async def test_a_vm_on_xenserver_is_connected_through_xapi(cloud: SmallCloud) -> None:
    session = await authorize(cloud, await new_token(cloud, vm_on(cloud, "xen-1", "XenServer")))
    found = await target(cloud, session.session_id)
    assert (found.host, found.transport) == (HOST_ADDRESS, TargetTransport.HTTP_CONNECT)
    assert found.session_id.startswith("OpaqueRef:")


@pytest_twisted.ensureDeferred
async def test_a_vm_on_vmware_is_connected_with_a_ticket_by_an_address(cloud: SmallCloud) -> None:
    token = await new_token(cloud, vm_on(cloud, "vcenter-1", "VMware"))
    session = await authorize(cloud, token, with_target=True)
    assert session.target is not None
    assert (session.target.host, session.target.path) == (ESXI_ADDRESS, "/ticket/cst-VCT-1")
    assert session.target.transport_tls == TargetTls("CA", "esxi-3.example.test")
    again = await target(cloud, session.session_id)
    assert again.path == "/ticket/cst-VCT-2", "each connection has a ticket of its own"


@pytest_twisted.ensureDeferred
async def test_a_host_that_shows_no_console_is_a_refusal_of_its_own(
    cloud: SmallCloud, peers: dict[str, XapiPeer | VcenterPeer]
) -> None:
    session = await authorize(cloud, await new_token(cloud, vm_on(cloud, "xen-1", "XenServer")))
    peer = peers["xen-1"]
    assert isinstance(peer, XapiPeer)
    peer.vms.clear()
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.SCREEN_UNREACHABLE
    peer.vms["i-2-7-VM"] = ["OpaqueRef:vm-7"]
    assert (await target(cloud, session.session_id)).host == HOST_ADDRESS, "the session goes on"


@pytest_twisted.ensureDeferred
async def test_a_host_without_access_is_a_refusal(cloud: SmallCloud) -> None:
    session = await authorize(cloud, await new_token(cloud, vm_on(cloud, "xen-2", "XenServer")))
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.SCREEN_UNREACHABLE


@pytest_twisted.ensureDeferred
async def test_a_cpvm_that_cannot_reach_such_hosts_gets_no_link(cloud: SmallCloud) -> None:
    vm = vm_on(cloud, "xen-1", "XenServer")
    cloud.agents.protocols |= dict.fromkeys(cloud.agents.peers, POLICIES_SINCE - 1)
    answer = await cloud.call("createConsoleEndpoint", cloud.user, virtualmachineid=vm.uuid)
    assert not answer["consoleendpoint"]["success"]
