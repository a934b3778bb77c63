# SPDX-License-Identifier: Apache-2.0
"""Users' VMs: deployment, start, stop, reboot, expunging, adoption and the reasons of an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.hypervisors.base import DomainState, DomainStatus, ExitReason
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import instances, templates, volumes, zones
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState, SpoolState, VolumeState
from systemvm.management.virtual_machines.errors import MachineError, NotDeployableError
from systemvm.management.virtual_machines.machine import VNC_PASSWORD_LENGTH, random_password
from systemvm.wire.storage import DownloadState, ImageFormat

GIB = 1024**3


async def offering(cloud: SmallCloud, name: str = "small") -> str:
    found = await cloud.call("listServiceOfferings", name=name)
    return str(found["serviceoffering"][0]["id"])


async def parameters(cloud: SmallCloud, **more: Any) -> dict[str, Any]:
    template = more.pop("template", None) or cloud.add_template()[0]
    return {
        "zoneid": cloud.zone.uuid,
        "templateid": template.uuid,
        "serviceofferingid": await offering(cloud),
    } | more


async def deployed(cloud: SmallCloud, **more: Any) -> Instance:
    job = await cloud.job("deployVirtualMachine", **await parameters(cloud, **more))
    assert job.result_code == 0, job.result
    return cloud.database.run_now(instances.by_uuid, present(job.instance_uuid))


async def settled(cloud: SmallCloud) -> None:
    """Wait until the database has run the writes of callbacks."""
    await cloud.database.run(lambda connection: None)


# --- deploying


@pytest_twisted.ensureDeferred
async def test_display_name_is_shown(cloud: SmallCloud) -> None:
    await deployed(cloud, name="one", displayname="Ulla's first machine")
    await deployed(cloud, name="two")
    listed = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert [(vm["name"], vm["displayname"]) for vm in listed] == [
        ("one", "Ulla's first machine"),
        ("two", "two"),
    ]
    with pytest.raises(ApiError, match="displayname: it has 256 characters, the maximum is 255"):
        await cloud.call("deployVirtualMachine", **await parameters(cloud, displayname="x" * 256))


@pytest_twisted.ensureDeferred
async def test_a_vm_is_a_linked_clone_of_its_template(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    answer = await cloud.call(
        "deployVirtualMachine", **await parameters(cloud, template=template, name="one")
    )
    job = await cloud.jobs.wait(answer["jobid"])
    vm = present(job.result)["virtualmachine"]
    assert vm["id"] == answer["id"]
    assert (vm["name"], vm["state"], vm["templatename"], vm["memory"]) == ("one", "Running", "tiny", 512)
    assert vm["instancename"] == f"i-{cloud.admin.account.id}-3-VM"
    spec = cloud.hypervisor.specs[vm["instancename"]]
    volume = present(cloud.database.run_now(volumes.root_of, 3))
    backing, backing_format, size = cloud.primary.clones[volume.uuid]
    assert cloud.primary.copied == [Path(present(cloud.store.host_path)) / present(ref.install_path)]
    assert (backing.name, backing_format, size) == (f"{template.uuid}.qcow2", "qcow2", None)
    assert present(spec.disk).path == cloud.primary.volume_path(volume.uuid)
    assert (spec.cdrom, spec.kernel) == (None, None)
    assert volume.state is VolumeState.READY
    [nic] = spec.nics
    assert (nic.traffic_type, nic.bridge, nic.mac[:3]) == ("guest", "cloudbr3", "02:")
    spool = cloud.database.run_now(templates.spool_ref, template.id, cloud.host.id)
    assert spool.state is SpoolState.READY


@pytest_twisted.ensureDeferred
async def test_vnc_is_on_the_management_address_with_a_random_password(
    cloud: SmallCloud,
) -> None:
    vm = await deployed(cloud)
    spec = cloud.hypervisor.specs[vm.instance_name]
    vnc = present(spec.vnc)
    password = present(vnc.password)
    assert (vnc.address, vnc.port) == ("10.11.0.1", 0)
    assert len(password) == VNC_PASSWORD_LENGTH
    assert cloud.seal.open(present(vm.sealed_vnc_password)) == password
    assert (vm.vnc_address, vm.vnc_port) == ("10.11.0.1", 5901)
    assert password not in repr(spec)
    await cloud.job("stopVirtualMachine", id=vm.uuid)
    await cloud.job("startVirtualMachine", id=vm.uuid)
    assert present(cloud.hypervisor.specs[vm.instance_name].vnc).password != password


def test_vnc_passwords_are_random() -> None:
    assert len({random_password() for _ in range(100)}) == 100


@pytest_twisted.ensureDeferred
async def test_an_iso_is_booted_beside_an_empty_disk(cloud: SmallCloud) -> None:
    iso, _ = cloud.add_template(format=ImageFormat.ISO, name="boot")
    vm = await deployed(cloud, template=iso)
    spec = cloud.hypervisor.specs[vm.instance_name]
    assert present(spec.cdrom).name == f"{iso.uuid}.iso"
    assert cloud.primary.clones == {}
    assert present(cloud.database.run_now(volumes.root_of, vm.id)).size_bytes == 8 * GIB
    [row] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert (row["isoname"], row["isoid"]) == ("boot", iso.uuid)
    job = await cloud.job("deleteIso", id=iso.uuid)
    assert (job.result_code, "used by" in job.result["errortext"]) == (431, True)


@pytest_twisted.ensureDeferred
async def test_disk_can_be_larger_than_the_template(cloud: SmallCloud) -> None:
    vm = await deployed(cloud, rootdisksize=5)
    volume = cloud.database.run_now(volumes.root_of, vm.id)
    assert cloud.primary.clones[present(volume).uuid][2] == 5 * GIB


@pytest_twisted.ensureDeferred
async def test_vm_can_be_deployed_without_a_start(cloud: SmallCloud) -> None:
    vm = await deployed(cloud, startvm="false")
    assert (vm.state, cloud.hypervisor.specs) == (InstanceState.STOPPED, {})
    await cloud.job("startVirtualMachine", id=vm.uuid)
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "not a host name"}, "Invalid name"),
        ({"name": "1st"}, "Invalid name"),
        ({"name": "ends-"}, "Invalid name"),
        ({"name": "a" * 64}, "Invalid name"),
        ({"rootdisksize": 0}, "rootdisksize"),
        ({"rootdisksize": 99999}, "rootdisksize"),
        ({"serviceofferingid": "00000000-0000-4000-8000-000000000000"}, "no service offering"),
        ({"templateid": "00000000-0000-4000-8000-000000000000"}, "no template"),
        ({"zoneid": "00000000-0000-4000-8000-000000000000"}, "no zone"),
        ({"hypervisor": "XenServer"}, "hypervisor"),
    ],
)
async def test_failed_deployment_leaves_nothing(
    cloud: SmallCloud, values: dict[str, Any], message: str
) -> None:
    with pytest.raises((ApiError, LookupError, NotDeployableError), match=message):
        await cloud.call("deployVirtualMachine", **(await parameters(cloud) | values))
    assert await cloud.call("listVirtualMachines") == {}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "state",
    [DownloadState.NOT_DOWNLOADED, DownloadState.DOWNLOAD_IN_PROGRESS, DownloadState.DOWNLOAD_ERROR],
)
async def test_a_template_must_be_ready(cloud: SmallCloud, state: DownloadState) -> None:
    template, _ = cloud.add_template(state=state)
    with pytest.raises(NotDeployableError, match="is not ready"):
        await cloud.call("deployVirtualMachine", **await parameters(cloud, template=template))


@pytest_twisted.ensureDeferred
async def test_an_iso_must_be_bootable(cloud: SmallCloud) -> None:
    iso, _ = cloud.add_template(format=ImageFormat.ISO, bootable=False)
    with pytest.raises(NotDeployableError, match="not bootable"):
        await cloud.call("deployVirtualMachine", **await parameters(cloud, template=iso))


@pytest_twisted.ensureDeferred
async def test_name_is_unique_in_an_account(cloud: SmallCloud) -> None:
    await deployed(cloud, name="one")
    with pytest.raises(NotDeployableError, match="exists already"):
        await cloud.call("deployVirtualMachine", **await parameters(cloud, name="ONE"))


@pytest_twisted.ensureDeferred
async def test_a_user_deploys_from_own_and_public_templates_only(cloud: SmallCloud) -> None:
    public, _ = cloud.add_template(public=True)
    private, _ = cloud.add_template()
    job = await cloud.job(
        "deployVirtualMachine", cloud.user, **await parameters(cloud, template=public, name="mine")
    )
    assert job.result["virtualmachine"]["account"] == "users"
    with pytest.raises(ApiError) as refused:
        await cloud.call("deployVirtualMachine", cloud.user, **await parameters(cloud, template=private))
    assert refused.value.code == 401


# --- failures


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        ("hypervisor", HypervisorError("QEMU did not start", "look at its log"), "QEMU did not start"),
        ("primary", PrimaryStorageError("no room", "free some"), "no room"),
        ("primary", OSError("disk on fire"), "disk on fire"),
    ],
)
async def test_failed_start_leaves_the_vm_stopped_with_the_reason(
    cloud: SmallCloud, broken: str, error: Exception, message: str
) -> None:
    getattr(cloud, broken).fails_with = error
    job = await cloud.job("deployVirtualMachine", **await parameters(cloud))
    assert job.result_code in (530, 534)
    [row] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert row["state"] == "Stopped"
    assert message in row["reason"]
    getattr(cloud, broken).fails_with = None
    again = await cloud.job("startVirtualMachine", id=row["id"])
    assert again.result["virtualmachine"]["state"] == "Running"
    assert "reason" not in again.result["virtualmachine"]


@pytest_twisted.ensureDeferred
async def test_unreadable_store_is_reported(cloud: SmallCloud) -> None:
    cloud.database.run_now(zones.store_rows.update, cloud.store.id, host_path=None)
    job = await cloud.job("deployVirtualMachine", **await parameters(cloud))
    assert "cannot be read on this host" in job.result["errortext"]
    assert "host_path" in job.result["hint"]


@pytest_twisted.ensureDeferred
async def test_a_path_that_leaves_the_store_is_refused(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    cloud.database.run_now(templates.update_store_ref, ref.id, install_path="../../etc/shadow")
    job = await cloud.job("deployVirtualMachine", **await parameters(cloud, template=template))
    assert "leaves its store" in job.result["errortext"]
    assert cloud.primary.copied == []


@pytest_twisted.ensureDeferred
async def test_failed_stop_leaves_the_vm_running(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    cloud.hypervisor.fails_with = HypervisorError("it cannot be ended")
    job = await cloud.job("stopVirtualMachine", id=vm.uuid)
    assert job.result_code == 534
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


# --- stopping, starting, destroying


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("forced", [False, True])
async def test_stop_and_start(cloud: SmallCloud, forced: bool) -> None:
    vm = await deployed(cloud)
    job = await cloud.job("stopVirtualMachine", id=vm.uuid, forced=forced)
    assert job.result["virtualmachine"]["state"] == "Stopped"
    assert "reason" not in job.result["virtualmachine"]
    assert cloud.hypervisor.stops == [(vm.instance_name, forced)]
    stopped = cloud.instance(vm.id)
    assert (stopped.vnc_port, stopped.sealed_vnc_password, stopped.wanted) == (None, None, False)
    clones = dict(cloud.primary.clones)
    await cloud.job("startVirtualMachine", id=vm.uuid)
    assert cloud.instance(vm.id).wanted
    assert cloud.primary.clones == clones, "it keeps its disk"


@pytest_twisted.ensureDeferred
async def test_each_operation_can_be_repeated(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    for command, state in [
        ("startVirtualMachine", "Running"),
        ("stopVirtualMachine", "Stopped"),
        ("destroyVirtualMachine", "Destroyed"),
    ]:
        for _ in range(2):
            job = await cloud.job(command, id=vm.uuid)
            assert job.result["virtualmachine"]["state"] == state
    for _ in range(2):
        assert (await cloud.machines.expunge(vm.id)).removed is not None
    assert (await cloud.machines.destroy(vm.id)).removed is not None


@pytest_twisted.ensureDeferred
async def test_expunged_vm_leaves_no_disk_and_is_not_listed(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    volume = cloud.database.run_now(volumes.root_of, vm.id)
    path = cloud.primary.volume_path(present(volume).uuid)
    assert path.exists()
    await cloud.job("destroyVirtualMachine", id=vm.uuid, expunge="true")
    assert not path.exists()
    assert await cloud.call("listVirtualMachines", listall="true") == {}
    assert cloud.database.run_now(volumes.root_of, vm.id) is None


@pytest_twisted.ensureDeferred
async def test_concurrent_operations_run_one_after_another(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    stopping = await cloud.call("stopVirtualMachine", id=vm.uuid)
    starting = await cloud.call("startVirtualMachine", id=vm.uuid)
    results = [await cloud.jobs.wait(job["jobid"]) for job in (stopping, starting)]
    assert [job.result_code for job in results] == [0, 0]
    assert cloud.instance(vm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("command", ["startVirtualMachine", "stopVirtualMachine", "destroyVirtualMachine"])
async def test_vm_of_another_account_cannot_be_operated(cloud: SmallCloud, command: str) -> None:
    vm = await deployed(cloud)
    with pytest.raises(ApiError) as refused:
        await cloud.call(command, cloud.user, id=vm.uuid)
    assert refused.value.code == 401
    assert await cloud.call("listVirtualMachines", cloud.user, listall="true") == {}


@pytest_twisted.ensureDeferred
async def test_system_vm_cannot_be_operated_as_a_users_vm(cloud: SmallCloud) -> None:
    with pytest.raises(ApiError, match="is a system VM"):
        await cloud.call("stopVirtualMachine", id=cloud.ssvm.uuid)
    with pytest.raises(MachineError, match="is a system VM"):
        await cloud.machines.stop(cloud.ssvm.id)


# --- ends and adoption


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("reason", list(ExitReason))
async def test_ended_vm_is_stopped_with_a_reason(cloud: SmallCloud, reason: ExitReason) -> None:
    vm = await deployed(cloud)
    cloud.hypervisor.exit(vm.instance_name, reason)
    await settled(cloud)
    [row] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert row["state"] == "Stopped"
    assert row["reason"]


@pytest_twisted.ensureDeferred
async def test_end_of_a_system_vm_is_ignored(cloud: SmallCloud) -> None:
    cloud.hypervisor.statuses["s-1-VM"] = DomainStatus("s-1-VM", "u", DomainState.RUNNING)
    cloud.hypervisor.exit("s-1-VM", ExitReason.GUEST_SHUTDOWN)
    await settled(cloud)
    assert cloud.instance(cloud.ssvm.id).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_running_vm_is_adopted_with_its_vnc_server(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    status = DomainStatus(
        vm.instance_name, vm.uuid, DomainState.RUNNING, vnc_address="10.11.0.1", vnc_port=5999
    )
    before = cloud.instance(vm.id)
    await cloud.machines.adopt({vm.instance_name: status})
    after = cloud.instance(vm.id)
    assert (after.state, after.vnc_port) == (InstanceState.RUNNING, 5999)
    assert after.sealed_vnc_password == before.sealed_vnc_password
    assert after.started == before.started


@pytest_twisted.ensureDeferred
async def test_vm_that_ended_meanwhile_is_stopped(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    await cloud.machines.adopt({})
    after = cloud.instance(vm.id)
    assert after.state is InstanceState.STOPPED
    assert "no management daemon" in present(after.reason)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("state", [InstanceState.STARTING, InstanceState.STOPPED])
async def test_interrupted_start_is_repeated(cloud: SmallCloud, state: InstanceState) -> None:
    vm = await deployed(cloud, startvm="false")
    cloud.update_instance(vm, state=state)
    started = await cloud.machines.start(vm.id)
    assert started.state is InstanceState.RUNNING
    cloud.update_instance(vm, state=InstanceState.STARTING)
    again = await cloud.machines.start(vm.id)
    assert again.state is InstanceState.RUNNING
    assert len(cloud.hypervisor.specs) == 1


# --- reboot


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("forced", [False, True])
async def test_a_reboot_stops_and_starts(cloud: SmallCloud, forced: bool) -> None:
    vm = await deployed(cloud)
    before = cloud.hypervisor.specs[vm.instance_name]
    job = await cloud.job("rebootVirtualMachine", id=vm.uuid, forced=forced)
    assert job.result["virtualmachine"]["state"] == "Running"
    assert cloud.hypervisor.stops == [(vm.instance_name, forced)]
    after = cloud.hypervisor.specs[vm.instance_name]
    assert after.disk == before.disk
    assert present(after.vnc).password != present(before.vnc).password


@pytest_twisted.ensureDeferred
async def test_only_a_running_vm_is_rebooted(cloud: SmallCloud) -> None:
    vm = await deployed(cloud)
    await cloud.job("stopVirtualMachine", id=vm.uuid)
    job = await cloud.job("rebootVirtualMachine", id=vm.uuid)
    assert (job.result_code, "is Stopped" in job.result["errortext"]) == (431, True)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("state", [InstanceState.STOPPING, InstanceState.STOPPED, InstanceState.STARTING])
async def test_interrupted_reboot_is_completed(cloud: SmallCloud, state: InstanceState) -> None:
    vm = await deployed(cloud)
    await cloud.hypervisor.stop(vm.instance_name)
    cloud.update_instance(vm, state=state, wanted=True)
    await cloud.machines.adopt({})
    assert (await cloud.machines.reboot(vm.id)).state is InstanceState.RUNNING
