# SPDX-License-Identifier: Apache-2.0
"""Migration and scaling of system VMs: refused with CloudStack's texts, after the checks."""

from __future__ import annotations

import pytest
import pytest_twisted

from api_requests import NOWHERE, refusal
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state.status import InstanceState, InstanceType


@pytest_twisted.ensureDeferred
async def test_a_system_vm_on_local_storage_is_not_migrated(cloud: SmallCloud) -> None:
    given = {"virtualmachineid": cloud.ssvm.uuid}
    for more in ({}, {"hostid": cloud.host.uuid}, {"autoselect": "true"}):
        error = await refusal(cloud, "migrateSystemVm", **given, **more)
        assert error.code is ErrorCode.PARAMETER
        assert error.message == "Unsupported operation, VM uses Local storage, cannot migrate"
    [pool] = (await cloud.call("listStoragePools"))["storagepool"]
    error = await refusal(cloud, "migrateSystemVm", **given, storageid=pool["id"])
    assert error.message.startswith("Unsupported operation, VM uses Local storage")
    both = {"hostid": cloud.host.uuid, "storageid": pool["id"]}
    error = await refusal(cloud, "migrateSystemVm", **given, **both)
    assert error.message == "Only one of hostId and storageId can be specified"
    assert await cloud.call("listAsyncJobs", listall="true") == {}


@pytest_twisted.ensureDeferred
async def test_what_is_named_must_exist_and_run(cloud: SmallCloud) -> None:
    vm = {"virtualmachineid": cloud.ssvm.uuid}
    for name in ("hostid", "storageid"):
        with pytest.raises(LookupError):
            await cloud.call("migrateSystemVm", **vm, **{name: NOWHERE})
    user_vm = cloud.add_system_vm(InstanceType.USER)
    error = await refusal(cloud, "migrateSystemVm", virtualmachineid=user_vm.uuid)
    assert "is not a system VM" in error.message
    cloud.update_instance(cloud.ssvm, state=InstanceState.STOPPED)
    error = await refusal(cloud, "migrateSystemVm", **vm)
    assert error.message == "VM is not Running, unable to migrate the vm s-1-VM"


@pytest.mark.parametrize("command", ["scaleSystemVm", "changeServiceForSystemVm"])
@pytest_twisted.ensureDeferred
async def test_a_system_vm_takes_no_offering_of_users(cloud: SmallCloud, command: str) -> None:
    [tiny] = (await cloud.call("listServiceOfferings", name="tiny"))["serviceoffering"]
    error = await refusal(cloud, command, id=cloud.cpvm.uuid, serviceofferingid=tiny["id"])
    assert error.message.startswith("isSystem property is different")
    [vm] = (await cloud.call("listSystemVms", id=cloud.cpvm.uuid))["systemvm"]
    error = await refusal(cloud, command, id=vm["id"], serviceofferingid=vm["serviceofferingid"])
    assert error.message == "v-2-VM already has this service offering"
    with pytest.raises(LookupError):
        await cloud.call(command, id=vm["id"], serviceofferingid=NOWHERE)


def test_the_response_of_a_scaling_has_cloudstacks_name(cloud: SmallCloud) -> None:
    assert cloud.table.find("scaleSystemVm").response_name == "changeserviceforsystemvmresponse"
