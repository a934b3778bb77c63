# SPDX-License-Identifier: Apache-2.0
"""Where a VM is deployed and started, and which firmware it can have."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from api_requests import NOWHERE, refusal
from small_cloud import SmallCloud
from systemvm.management.state import instances, pods, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.rows import Rows
from user_vms import deployment_parameters


@pytest_twisted.ensureDeferred
async def test_the_host_of_this_daemon_its_cluster_and_its_pod_are_accepted(cloud: SmallCloud) -> None:
    [host] = (await cloud.call("listHosts", type="Routing"))["host"]
    place = {
        name: host[key] for name, key in (("hostid", "id"), ("clusterid", "clusterid"), ("podid", "podid"))
    }
    job = await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud), **place)
    vm = job.result["virtualmachine"]
    assert vm["hostid"] == host["id"]
    await cloud.job("stopVirtualMachine", id=vm["id"], forced="true")
    job = await cloud.job("startVirtualMachine", id=vm["id"], **place)
    assert job.result["virtualmachine"]["hostid"] == host["id"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["hostid", "clusterid", "podid"])
async def test_another_place_is_refused_by_name_with_what_is_accepted(cloud: SmallCloud, name: str) -> None:
    job = await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud), startvm="false")
    vm = job.result["virtualmachine"]["id"]
    [host] = (await cloud.call("listHosts", type="Routing"))["host"]
    accepted = host["id" if name == "hostid" else name]
    for command, values in (
        ("deployVirtualMachine", await deployment_parameters(cloud)),
        ("startVirtualMachine", {"id": vm}),
    ):
        error = await refusal(cloud, command, **values, **{name: NOWHERE})
        assert (error.code, name in error.message, accepted in error.hint) == (431, True, True), error


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("noun", ["zone", "pod", "cluster"])
async def test_nothing_is_started_in_a_disabled_place(cloud: SmallCloud, noun: str) -> None:
    template = cloud.add_template(public=True)[0]
    values = await deployment_parameters(cloud, template)
    vm = (await cloud.job("deployVirtualMachine", cloud.user, **values)).result["virtualmachine"]
    command = f"update{noun.capitalize()}"
    [place] = (await cloud.call(f"list{noun.capitalize()}s"))[noun]
    await cloud.call(command, id=place["id"], allocationstate="Disabled")
    assert cloud.database.run_now(instances.by_uuid, vm["id"]).state.value == "Running", "what runs goes on"
    assert (await cloud.job("rebootVirtualMachine", id=vm["id"])).result_code == 0
    await cloud.job("stopVirtualMachine", id=vm["id"], forced="true")
    for call, parameters, parameter in (
        ("deployVirtualMachine", values, "zoneid"),
        ("startVirtualMachine", {"id": vm["id"]}, "id"),
    ):
        error = await refusal(cloud, call, **parameters)
        assert error.message.endswith(f"{parameter}: {noun} {place['name']} is Disabled")
        assert (error.parameter, command in error.hint) == (parameter, True)
        seen = await refusal(cloud, call, cloud.user, **parameters)
        assert seen.message.endswith(f"no VMs are started in zone {cloud.zone.name} now")
    cloud.database.run_now(_enable, noun, place["id"])
    assert (await cloud.job("startVirtualMachine", cloud.user, id=vm["id"])).result_code == 0


def _enable(connection: Connection, noun: str, uuid: str) -> None:
    tables: dict[str, Rows[Any]] = {
        "zone": zones.zone_rows,
        "pod": pods.pod_rows,
        "cluster": pods.cluster_rows,
    }
    rows = tables[noun]
    rows.update(connection, rows.by_uuid(connection, uuid).id, allocation_state="Enabled")


@pytest_twisted.ensureDeferred
async def test_a_foreign_host_and_a_system_vm_are_no_place(cloud: SmallCloud) -> None:
    foreign = cloud.database.run_now(
        lambda connection: zones.host_rows.insert(
            connection, name="xen1", hypervisor="XenServer", zone_id=cloud.zone.id
        )
    )
    values = await deployment_parameters(cloud)
    error = await refusal(cloud, "deployVirtualMachine", **values, hostid=foreign.uuid)
    assert "consoles" in error.message
    error = await refusal(cloud, "deployVirtualMachine", **values, hostid=cloud.ssvm.uuid)
    assert cloud.ssvm.instance_name in error.message


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["hostid", "clusterid", "podid"])
async def test_only_root_administrators_choose_a_place(cloud: SmallCloud, name: str) -> None:
    values = await deployment_parameters(cloud, cloud.add_template(public=True)[0])
    error = await refusal(cloud, "deployVirtualMachine", cloud.user, **values, **{name: cloud.host.uuid})
    assert (error.code, name in error.message) == (401, True)


@pytest_twisted.ensureDeferred
async def test_an_image_of_another_architecture_is_refused_by_name(cloud: SmallCloud) -> None:
    arm = cloud.add_template(arch="arm64")[0]
    error = await refusal(cloud, "deployVirtualMachine", **await deployment_parameters(cloud, arm))
    assert (error.code, "templateid" in error.message, "arm64" in error.message) == (431, True, True)
    job = await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud), startvm="false")
    vm = job.result["virtualmachine"]["id"]
    error = await refusal(cloud, "restoreVirtualMachine", virtualmachineid=vm, templateid=arm.uuid)
    assert (error.code, "templateid" in error.message) == (431, True)


@pytest_twisted.ensureDeferred
async def test_a_vm_of_arm_has_uefi_and_no_bios(cloud: SmallCloud) -> None:
    cloud.database.run_now(lambda connection: zones.host_rows.update(connection, cloud.host.id, arch="arm64"))
    values = await deployment_parameters(cloud, cloud.add_template(arch="arm64")[0])
    error = await refusal(cloud, "deployVirtualMachine", **values, boottype="BIOS")
    assert (error.code, "boottype" in error.message) == (431, True)
    job = await cloud.job("deployVirtualMachine", **values, startvm="false")
    assert job.result["virtualmachine"]["boottype"] == "Uefi"


@pytest_twisted.ensureDeferred
async def test_a_host_without_the_firmware_refuses_uefi_with_the_package(cloud: SmallCloud) -> None:
    assert (await cloud.call("listHosts", type="Routing"))["host"][0]["ueficapability"] is True
    cloud.database.run_now(
        lambda connection: zones.host_rows.update(connection, cloud.host.id, has_uefi=False)
    )
    assert (await cloud.call("listHosts", type="Routing"))["host"][0]["ueficapability"] is False
    error = await refusal(
        cloud, "deployVirtualMachine", **await deployment_parameters(cloud), boottype="UEFI"
    )
    assert (error.code, "boottype" in error.message, "ovmf" in error.hint) == (431, True, True)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("name", "value"), [("bootmode", "SECURE"), ("boottype", "COREBOOT")])
async def test_other_firmware_is_refused_by_name(cloud: SmallCloud, name: str, value: str) -> None:
    values = {"boottype": "UEFI"} | {name: value}
    error = await refusal(cloud, "deployVirtualMachine", **await deployment_parameters(cloud), **values)
    assert (error.code, name in error.message) == (431, True)
    assert await cloud.call("listVirtualMachines") == {}
