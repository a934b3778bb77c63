# SPDX-License-Identifier: Apache-2.0
"""Consoles of VMs on hosts that no daemon drives: the daemon answers what the host's API says then."""

from __future__ import annotations

import pytest
import pytest_twisted

from console_tokens import authorize, refusal, target
from foreign_host_peers import HOST_ADDRESS, PASSWORD, USERNAME, VcenterPeer, XapiPeer
from settling import settled
from small_cloud import SmallCloud
from small_cloud.foreign_hosts import FINGERPRINT
from systemvm.management.state import instances
from systemvm.management.state.instances import Instance
from systemvm.wire import console
from systemvm.wire.console import ConsoleRefusal, TargetTls, TargetTransport
from systemvm.wire.protocol import POLICIES_SINCE

ESXI_ADDRESS = "10.11.0.43"


@pytest.fixture
def xapi(cloud: SmallCloud) -> XapiPeer:
    peer = XapiPeer()
    cloud.host_peers["xen-1"] = peer
    return peer


@pytest.fixture
def vcenter(cloud: SmallCloud) -> VcenterPeer:
    peer = VcenterPeer()
    cloud.host_peers["vcenter-1"] = peer
    cloud.host_names[peer.esxi] = ESXI_ADDRESS
    return peer


async def add_xen(cloud: SmallCloud) -> Instance:
    await cloud.call(
        "addHost", hypervisor="XenServer", url="http://xen-1", username=USERNAME, password=PASSWORD,
        fingerprint=FINGERPRINT,
    )  # fmt: skip
    return machine(cloud, "web-1")


async def add_vmware(cloud: SmallCloud, ca_pem: str) -> Instance:
    await cloud.call(
        "addHost", hypervisor="VMware", url="https://vcenter-1", username=USERNAME, password=PASSWORD,
        cacertificate=ca_pem,
    )  # fmt: skip
    return machine(cloud, "db-1")


def machine(cloud: SmallCloud, name: str) -> Instance:
    [found] = [vm for vm in cloud.database.run_now(instances.list_user) if vm.name == name]
    return found


async def new_token(cloud: SmallCloud, vm: Instance) -> str:
    answer = await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid)
    return str(answer["consoleendpoint"]["websocket"]["token"])


@pytest_twisted.ensureDeferred
async def test_a_vm_on_xenserver_is_connected_through_xapi(cloud: SmallCloud, xapi: XapiPeer) -> None:
    session = await authorize(cloud, await new_token(cloud, await add_xen(cloud)))
    found = await target(cloud, session.session_id)
    assert (found.host, found.port, found.transport) == (HOST_ADDRESS, 443, TargetTransport.HTTP_CONNECT)
    assert found.session_id.startswith("OpaqueRef:")


@pytest_twisted.ensureDeferred
async def test_a_vm_on_vmware_is_connected_with_a_ticket_by_an_address(
    cloud: SmallCloud, vcenter: VcenterPeer
) -> None:
    ca_pem = cloud.authority.ca_pem.decode()
    token = await new_token(cloud, await add_vmware(cloud, ca_pem))
    session = await authorize(cloud, token, with_target=True)
    assert session.target is not None
    assert (session.target.host, session.target.path) == (ESXI_ADDRESS, "/ticket/cst-VCT-1")
    assert session.target.transport_tls == TargetTls(ca_pem, vcenter.esxi)
    again = await target(cloud, session.session_id)
    assert again.path == "/ticket/cst-VCT-2", "each connection has a ticket of its own"


@pytest_twisted.ensureDeferred
async def test_a_host_that_shows_no_console_is_a_refusal_of_its_own(
    cloud: SmallCloud, xapi: XapiPeer
) -> None:
    session = await authorize(cloud, await new_token(cloud, await add_xen(cloud)))
    kept = dict(xapi.vms)
    xapi.vms.clear()
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.SCREEN_UNREACHABLE
    xapi.vms.update(kept)
    assert (await target(cloud, session.session_id)).host == HOST_ADDRESS, "the session goes on"
    cloud.host_peers.clear()


@pytest_twisted.ensureDeferred
async def test_a_console_at_an_address_of_no_host_is_refused(cloud: SmallCloud, xapi: XapiPeer) -> None:
    session = await authorize(cloud, await new_token(cloud, await add_xen(cloud)))
    for elsewhere in ("127.0.0.1", "10.11.0.99", f"{HOST_ADDRESS}:8443"):
        xapi.location = f"https://{elsewhere}/console?ref=OpaqueRef:con-7"
        assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.SCREEN_UNREACHABLE


@pytest_twisted.ensureDeferred
async def test_a_host_that_has_joined_its_pool_is_found_by_the_console(
    cloud: SmallCloud, xapi: XapiPeer
) -> None:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    session = await authorize(cloud, await new_token(cloud, await add_xen(cloud)))
    await settled(cloud.database)
    assert peer.params_of(console.CONSOLE_HOSTS)[-1].addresses == [HOST_ADDRESS]
    xapi.hosts["OpaqueRef:host-2"] = "10.11.0.32"
    xapi.location = "https://10.11.0.32/console?ref=OpaqueRef:con-7"
    assert (await target(cloud, session.session_id)).host == "10.11.0.32"
    await settled(cloud.database)
    assert peer.params_of(console.CONSOLE_HOSTS)[-1].addresses == [HOST_ADDRESS, "10.11.0.32"]


@pytest_twisted.ensureDeferred
async def test_consoles_end_with_the_registration_of_their_host(cloud: SmallCloud, xapi: XapiPeer) -> None:
    vm = await add_xen(cloud)
    session = await authorize(cloud, await new_token(cloud, vm))
    token = await new_token(cloud, vm)
    [host] = (await cloud.call("listHosts", hypervisor="XenServer"))["host"]
    await cloud.call("deleteHost", id=host["id"])
    assert await refusal(target(cloud, session.session_id)) is ConsoleRefusal.MACHINE_GONE
    assert await refusal(authorize(cloud, token)) is ConsoleRefusal.MACHINE_GONE


@pytest_twisted.ensureDeferred
async def test_a_cpvm_that_cannot_reach_such_hosts_gets_no_link(cloud: SmallCloud, xapi: XapiPeer) -> None:
    vm = await add_xen(cloud)
    cloud.agents.protocols |= dict.fromkeys(cloud.agents.peers, POLICIES_SINCE - 1)
    answer = await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid)
    assert not answer["consoleendpoint"]["success"]
