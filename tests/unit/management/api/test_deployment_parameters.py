# SPDX-License-Identifier: Apache-2.0
"""Parameters of deployVirtualMachine are applied, or rejected by name."""

from __future__ import annotations

import pytest
import pytest_twisted

from api_requests import NOWHERE, refusal
from present import present
from small_cloud import SmallCloud
from systemvm.management.api.zone_parts import guest_network_of
from systemvm.management.state import instances, templates
from systemvm.wire.storage import ImageFormat
from user_vms import deployment_parameters

GIB = 1 << 30


def set_virtual_size(cloud: SmallCloud, template_uuid: str, size_bytes: int) -> None:
    template = cloud.database.run_now(templates.by_uuid, template_uuid)
    ref = present(cloud.database.run_now(templates.store_ref_of, template.id))
    cloud.database.run_now(templates.update_store_ref, ref.id, virtual_size_bytes=size_bytes)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["rootdisksize", "details[0].rootdisksize", "details[3].RootDiskSize"])
async def test_disk_is_never_smaller_than_its_template(cloud: SmallCloud, name: str) -> None:
    values = await deployment_parameters(cloud)
    set_virtual_size(cloud, values["templateid"], 3 * GIB)
    with pytest.raises(Exception, match=r"\(1 GiB\) is smaller than template size \(3.00 GiB\)"):
        await cloud.call("deployVirtualMachine", **values, **{name: "1"})
    assert await cloud.call("listVirtualMachines", listall="true") == {}
    await cloud.job("deployVirtualMachine", **values, **{name: "4"})
    [(_, _, size_bytes)] = cloud.primary.clones.values()
    assert size_bytes == 4 * GIB


@pytest_twisted.ensureDeferred
async def test_details_precede_the_parameter_as_in_cloudstack(cloud: SmallCloud) -> None:
    values = await deployment_parameters(cloud)
    await cloud.job("deployVirtualMachine", **values, **{"rootdisksize": "2", "details[0].rootdisksize": "5"})
    [(_, _, size_bytes)] = cloud.primary.clones.values()
    assert size_bytes == 5 * GIB


@pytest_twisted.ensureDeferred
async def test_what_an_owner_notes_of_a_vm_is_shown(cloud: SmallCloud) -> None:
    values = await deployment_parameters(cloud)
    noted = {"details[0].Owner": "Ada", "details[1].rootdisksize": "5", "details[1].cost.center": "7"}
    job = await cloud.job("deployVirtualMachine", **values, **noted)
    assert job.result["virtualmachine"]["details"] == {"Owner": "Ada", "cost.center": "7"}
    [shown] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert shown["details"] == {"Owner": "Ada", "cost.center": "7"}
    await cloud.job("deployVirtualMachine", **values)
    *_, plain = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert "details" not in plain


@pytest_twisted.ensureDeferred
async def test_a_vm_keeps_the_keyboard_of_its_deployment(cloud: SmallCloud) -> None:
    values = await deployment_parameters(cloud)
    with pytest.raises(Exception, match="keyboard"):
        await cloud.call("deployVirtualMachine", **values, keyboard="klingon")
    job = await cloud.job("deployVirtualMachine", **values, keyboard="de-ch")
    row = cloud.database.run_now(instances.by_uuid, job.result["virtualmachine"]["id"])
    assert row.keyboard == "de-ch"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("diskofferingid", NOWHERE),
        ("size", "2"),
        ("networkids", NOWHERE),
        ("iptonetworklist[0].networkid", NOWHERE),
        ("keypair", "mine"),
        ("keypairs", "mine"),
        ("userdataid", NOWHERE),
        ("details[0].cpuNumber", "8"),
        ("details[0].rootDiskController", "scsi"),
        ("details[0].extraconfig-1", "memballoon"),
        (f"details[0].{'k' * 256}", "x"),
        ("details[0].rootdisksize", "much"),
        ("rootdisksize", "0"),
        ("group", "web"),
        ("displayvm", "false"),
        ("hypervisor", "XenServer"),
        ("projectid", NOWHERE),
    ],
)
async def test_unsupported_parameters_of_a_deployment_are_rejected_by_name(
    cloud: SmallCloud, name: str, value: str
) -> None:
    error = await refusal(
        cloud, "deployVirtualMachine", **await deployment_parameters(cloud), **{name: value}
    )
    reported_name = "network" if name == "networkids" else name.partition("[")[0]
    assert (error.code, reported_name in error.message) == (431, True), error.message
    assert await cloud.call("listVirtualMachines", listall="true") == {}


@pytest_twisted.ensureDeferred
async def test_guest_network_can_be_given_by_id(cloud: SmallCloud) -> None:
    network = guest_network_of(cloud.zone).id
    await cloud.job("deployVirtualMachine", **await deployment_parameters(cloud), networkids=network)
    assert (await cloud.call("listVirtualMachines", networkid=network))["count"] == 1
    assert await cloud.call("listVirtualMachines", networkid=NOWHERE) == {}


@pytest_twisted.ensureDeferred
async def test_disk_of_a_machine_that_boots_an_iso_has_the_requested_size(cloud: SmallCloud) -> None:
    values = await deployment_parameters(cloud, cloud.add_template(format=ImageFormat.ISO)[0])
    await cloud.job("deployVirtualMachine", **values, size="2")
    [volume] = (await cloud.call("listVolumes"))["volume"]
    assert volume["size"] == 2 * GIB
    error = await refusal(cloud, "deployVirtualMachine", **values, diskofferingid=NOWHERE)
    assert "diskofferingid" in error.message
    error = await refusal(cloud, "deployVirtualMachine", **values, size="2", rootdisksize="3")
    assert "size and rootdisksize" in error.message
