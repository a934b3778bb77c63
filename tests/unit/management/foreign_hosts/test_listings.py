# SPDX-License-Identifier: Apache-2.0
"""Listings of registered hosts: what they change, what they cost, and what a host that fails costs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted

from foreign_host_peers import XEN_VM, XapiPeer, xapi_vm
from small_cloud import SmallCloud
from small_cloud.foreign_hosts import REFRESH_S
from systemvm.management.state import events, foreign_hosts, zones
from systemvm.management.state.columns import now
from systemvm.management.state.foreign_hosts import ForeignHost

OTHER_VM = XEN_VM.replace("4", "5")


async def register(cloud: SmallCloud, definition: dict[str, Any]) -> int:
    [host] = (await cloud.call("addHost", **definition))["host"]
    return cloud.database.run_now(zones.host_by_uuid, host["id"]).id


async def machines(cloud: SmallCloud) -> dict[str, dict[str, Any]]:
    answer = await cloud.call("listVirtualMachines")
    return {vm["name"]: vm for vm in answer.get("virtualmachine", [])}


def reached(cloud: SmallCloud, host_id: int) -> ForeignHost:
    return cloud.database.run_now(foreign_hosts.of_host, host_id)


def make_due(cloud: SmallCloud, host_id: int) -> None:
    cloud.database.run_now(foreign_hosts.update, host_id, due=now() - timedelta(seconds=1))


@pytest_twisted.ensureDeferred
async def test_vms_follow_their_host(cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]) -> None:
    host_id = await register(cloud, definition)
    before = (await machines(cloud))["web-1"]
    xapi.vms["OpaqueRef:vm-7"] = xapi_vm(XEN_VM, "web-renamed", "Suspended")
    xapi.vms["OpaqueRef:vm-8"] = xapi_vm(OTHER_VM, "db-1", "Halted")
    make_due(cloud, host_id)
    await cloud.hosts.list_due()
    found = await machines(cloud)
    assert found["web-renamed"]["id"] == before["id"], "a VM is the same after it was renamed"
    assert (found["web-renamed"]["state"], found["web-renamed"]["powerstate"]) == ("Stopped", "PowerOff")
    assert "suspended" in found["web-renamed"]["reason"]
    assert found["db-1"]["state"] == "Stopped"
    del xapi.vms["OpaqueRef:vm-7"]
    make_due(cloud, host_id)
    await cloud.hosts.list_due()
    assert list(await machines(cloud)) == ["db-1"]


@pytest_twisted.ensureDeferred
async def test_only_hosts_that_are_due_are_asked_and_nothing_new_writes_nothing(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    host_id = await register(cloud, definition)
    xapi.calls.clear()
    await cloud.hosts.list_due()
    assert xapi.calls == []
    recorded = len(cloud.database.run_now(events.rows.all))
    make_due(cloud, host_id)
    await cloud.hosts.list_due()
    assert xapi.calls == ["host.get_all_records", "VM.get_all_records_where"], "one request of each kind"
    assert len(cloud.database.run_now(events.rows.all)) == recorded
    assert reached(cloud, host_id).due > now() + timedelta(seconds=REFRESH_S / 2)


@pytest_twisted.ensureDeferred
async def test_a_due_host_is_claimed_by_one_daemon(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    host_id = await register(cloud, definition)
    make_due(cloud, host_id)
    lease = timedelta(minutes=1)
    assert cloud.database.run_now(foreign_hosts.claim_due, lease) == [host_id]
    assert cloud.database.run_now(foreign_hosts.claim_due, lease) == []


@pytest_twisted.ensureDeferred
async def test_a_host_that_fails_is_named_and_asked_less_often(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    host_id = await register(cloud, definition)

    waits = []
    xapi.master = "10.11.0.30"
    xapi.sessions.clear()
    for _ in range(6):
        make_due(cloud, host_id)
        await cloud.hosts.list_due()
        waits.append(round((reached(cloud, host_id).due - now()).total_seconds() / REFRESH_S))
    assert waits == [1, 2, 4, 8, 8, 8]
    [host] = (await cloud.call("listHosts", hypervisor="XenServer"))["host"]
    assert (host["state"], "10.11.0.30" in host["hint"]) == ("Alert", True)
    assert (await machines(cloud))["web-1"]["state"] == "Running", "VMs keep their last state"
    alerts = [event for event in cloud.database.run_now(events.rows.all) if event.type == "HOST.ALERT"]
    assert len(alerts) == 1
    xapi.master = ""
    make_due(cloud, host_id)
    await cloud.hosts.list_due()
    [host] = (await cloud.call("listHosts", hypervisor="XenServer"))["host"]
    assert (host["state"], "reason" in host) == ("Up", False)


@pytest_twisted.ensureDeferred
async def test_an_operator_can_have_a_host_listed_now(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    host_id = await register(cloud, definition)
    xapi.vms["OpaqueRef:vm-8"] = xapi_vm(OTHER_VM, "db-1")
    uuid = cloud.database.run_now(zones.host_by_id, host_id).uuid
    job = await cloud.job("reconnectHost", id=uuid)
    assert job.result["host"]["virtualmachines"] == 2
    xapi.master = "10.11.0.30"
    xapi.sessions.clear()
    assert (await cloud.job("reconnectHost", id=uuid)).result["errorcode"] == 534


@pytest_twisted.ensureDeferred
async def test_a_listing_of_a_removed_host_changes_nothing(
    cloud: SmallCloud, xapi: XapiPeer, definition: dict[str, Any]
) -> None:
    host_id = await register(cloud, definition)
    await cloud.hosts.remove(host_id)
    await cloud.hosts.list_due()
    assert await machines(cloud) == {}
    with pytest.raises(LookupError):
        await cloud.hosts.refresh(host_id)
