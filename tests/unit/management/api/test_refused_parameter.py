# SPDX-License-Identifier: Apache-2.0
"""A refusal names the parameter that it is about, whichever the command names an object by."""

from __future__ import annotations

import uuid
from typing import Any

import attrs
import pytest
import pytest_twisted

from present import present
from shared_pools import create_pool
from small_cloud import SmallCloud
from systemvm.management import os_types
from systemvm.management.api.errors import ApiError, ErrorCode, object_error, parameter_error
from systemvm.management.api.operators import as_rpc_error
from systemvm.management.api.parameters import Arguments, ParameterType, optional, required
from systemvm.management.api.refused_parameter import refused_parameter
from systemvm.management.state import storage_pools
from systemvm.management.state.volumes import Volume
from systemvm.rpc.core.errors import RpcError
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.storage import ImageFormat
from unfinished_job import start_unfinished
from user_vms import deploy_running, deploy_stopped, root_of

VM, POOL = str(uuid.uuid4()), str(uuid.uuid4())
DECLARED = (
    required("virtualmachineid", ParameterType.UUID, "VM"),
    optional("storageid", ParameterType.UUID, "pool"),
    optional("ids", ParameterType.LIST, "more VMs"),
    optional("size", ParameterType.INTEGER, "size"),
)
WRONG_STATE, INVALID = FailureCode.WRONG_STATE, FailureCode.INVALID


@pytest.mark.parametrize(
    ("error", "sent", "named"),
    [
        (SystemVmError("too small", code=INVALID, parameter="size"), {}, "size"),
        (SystemVmError("stopped", code=WRONG_STATE, value=VM), {}, "virtualmachineid"),
        (SystemVmError("full", code=INVALID, value=POOL), {"storageid": POOL}, "storageid"),
        (SystemVmError("stopped", code=WRONG_STATE, value=POOL), {"ids": [POOL]}, "ids"),
        (object_error(POOL, "local"), {"storageid": POOL}, "storageid"),
        (SystemVmError("stopped", code=WRONG_STATE), {}, "virtualmachineid"),
        # which of the two is meant, nobody knows
        (SystemVmError("stopped", code=WRONG_STATE), {"storageid": POOL}, ""),
        # the command has no such parameter
        (SystemVmError("stopped", code=WRONG_STATE, parameter="id"), {}, "virtualmachineid"),
        (SystemVmError("too small", code=INVALID, parameter="other"), {}, ""),
        (SystemVmError("broken", code=FailureCode.UNAVAILABLE), {}, ""),
    ],
)
def test_the_parameter_is_that_of_the_error_of_its_value_or_of_the_object(
    error: SystemVmError, sent: dict[str, object], named: str
) -> None:
    assert refused_parameter(error, DECLARED, Arguments({"virtualmachineid": VM} | sent)) == named


@pytest_twisted.ensureDeferred
async def test_an_object_is_named_by_each_command_as_it_was_sent(cloud: SmallCloud) -> None:
    for command, name in (
        ("startVirtualMachine", "id"), ("attachIso", "virtualmachineid"), ("listNics", "virtualmachineid"),
        ("createSnapshot", "volumeid"),
    ):  # fmt: skip
        iso = cloud.add_template(public=True)[0].uuid
        more = {"id": iso} if command == "attachIso" else {}
        with pytest.raises(SystemVmError) as refused:
            await cloud.call(command, **{name: VM}, **more)
        assert (command, refused.value.parameter) == (command, name)


@pytest_twisted.ensureDeferred
async def test_a_missing_right_names_the_parameter_that_needs_it(cloud: SmallCloud) -> None:
    foreign = await deploy_stopped(cloud)
    own = await deploy_stopped(cloud, cloud.user)
    disk = (await cloud.job("createVolume", cloud.user, name="own", size="1")).result["volume"]["id"]
    iso = cloud.add_template(name="own", format=ImageFormat.ISO, owner=cloud.user)[0].uuid
    for command, parameter, sent in (
        ("attachVolume", "virtualmachineid", {"id": disk, "virtualmachineid": foreign.uuid}),
        ("attachIso", "virtualmachineid", {"id": iso, "virtualmachineid": foreign.uuid}),
        ("startVirtualMachine", "id", {"id": foreign.uuid}),
        ("startVirtualMachine", "hostid", {"id": own.uuid, "hostid": cloud.host.uuid}),
        ("updateUser", "username", {"id": cloud.user.user.uuid, "username": "other"}),
        ("destroyVirtualMachine", "expunge", {"id": own.uuid, "expunge": "true"}),
    ):
        with pytest.raises(ApiError) as refused:
            await cloud.call(command, cloud.user, **sent)
        assert (command, refused.value.code) == (command, ErrorCode.UNAUTHORIZED)
        assert (command, refused.value.parameter) == (command, parameter)


@pytest_twisted.ensureDeferred
async def test_a_volume_without_a_file_is_named_by_each_command_as_it_was_sent(cloud: SmallCloud) -> None:
    root = root_of(cloud, await deploy_stopped(cloud))
    pool = present(cloud.database.run_now(storage_pools.pool_of_host, cloud.host.id))
    schedule = {"intervaltype": "HOURLY", "schedule": "5", "maxsnaps": 1, "timezone": "UTC"}
    image: dict[str, object] = {"name": "image", "displaytext": "image", "ostypeid": os_types.DEFAULT.id}
    commands: list[tuple[str, str, dict[str, object]]] = [
        ("createSnapshot", "volumeid", {}),
        ("createSnapshotPolicy", "volumeid", schedule),
        ("createTemplate", "volumeid", image),
        ("migrateVolume", "volumeid", {"storageid": pool.uuid}),
        ("resizeVolume", "id", {"size": 9}),
        ("extractVolume", "id", {"mode": "HTTP_DOWNLOAD", "zoneid": cloud.zone.uuid}),
    ]
    for command, name, more in commands:
        try:
            result = (await cloud.job(command, **{name: root.uuid}, **more)).result or {}
            found = (result["errortext"], result["parameter"])
        except SystemVmError as error:
            found = (error.message, error.parameter)
        assert found == (f"{name}: volume {root.name} is Allocated", name), command


@pytest_twisted.ensureDeferred
async def test_a_job_that_fails_for_the_state_of_its_object_names_it_as_it_was_sent(
    cloud: SmallCloud,
) -> None:
    template, _ = cloud.add_template(owner=cloud.user)
    vm = await deploy_running(cloud, cloud.user, template)
    expunged = await cloud.job("expungeVirtualMachine", id=vm.uuid)
    assert (expunged.result_code, (expunged.result or {})["parameter"]) == (431, "id")
    deleted = await cloud.job("deleteTemplate", id=template.uuid)
    assert (deleted.result_code, (deleted.result or {})["parameter"]) == (431, "id")
    added = await cloud.job("addTrafficType", physicalnetworkid=VM, traffictype="Guest")
    assert (added.result_code, (added.result or {})["parameter"]) == (431, "physicalnetworkid")


@pytest_twisted.ensureDeferred
async def test_a_job_names_no_parameter_that_its_command_does_not_have(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, vm = await create_pool(cloud), await deploy_running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    migration = cloud.services.disks.migration
    migrate = migration.migrate

    async def start_and_migrate(*arguments: Any) -> Volume:
        await cloud.machines.start(vm.id)
        return await migrate(*arguments)

    monkeypatch.setattr(migration, "migrate", start_and_migrate)
    root = root_of(cloud, vm).uuid
    for command, name, uuid_ in (
        ("migrateVirtualMachine", "virtualmachineid", vm.uuid),
        ("migrateVolume", "volumeid", root),
    ):
        job = await cloud.job(command, **{name: uuid_}, storageid=pool.uuid)
        assert "is Running" in job.result["errortext"]
        assert (command, job.result["parameter"]) == (command, name)
        await cloud.machines.stop(vm.id, forced=True)


@pytest.mark.parametrize(
    ("command", "error", "named"),
    [
        ("migrateVirtualMachine", SystemVmError("full", code=INVALID, parameter="storageid"), "storageid"),
        ("migrateVirtualMachine", SystemVmError("full", code=INVALID, parameter="size"), ""),
        # the parameter of another object is not known any more
        ("migrateVirtualMachine", SystemVmError("gone", code=WRONG_STATE, value=POOL), ""),
        ("migrateVirtualMachine", SystemVmError("gone", code=WRONG_STATE, value=VM), "virtualmachineid"),
        ("migrateVirtualMachine", RuntimeError("unexpected"), ""),
        ("no command of this release", SystemVmError("gone", code=WRONG_STATE, parameter="id"), ""),
    ],
)
def test_a_job_knows_the_parameter_of_its_object_and_those_of_its_command(
    cloud: SmallCloud, command: str, error: Exception, named: str
) -> None:
    job = start_unfinished(cloud, command, object_parameter="virtualmachineid")
    _, result = cloud.jobs.describe(error, attrs.evolve(job, instance_uuid=VM))
    assert result.get("parameter", "") == named


def test_operators_are_sent_the_parameter_too() -> None:
    sent = as_rpc_error(parameter_error("size", "too small", "send 2"))
    assert RpcError.from_wire(sent.to_wire()).parameter == "size"
    assert "parameter" not in as_rpc_error(ApiError(ErrorCode.BUSY, "later")).data
