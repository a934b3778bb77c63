# SPDX-License-Identifier: Apache-2.0
"""attachIso and detachIso: the ISO in the drive of a VM that runs or is stopped, refused or interrupted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError

from hanging_operation import HangingOperation
from present import present
from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.api.principal import Principal
from systemvm.management.hypervisors.base import ExitReason
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import events, instances, template_permissions, templates, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState
from systemvm.management.state.templates import Template
from systemvm.management.templates.copies import TemplateCopies
from systemvm.management.virtual_machines.errors import IsoNotUsableError, MachineStateError
from systemvm.wire.storage import DownloadState, ImageFormat
from unfinished_job import resume, start_unfinished
from user_vms import deploy_by_api, deploy_running, deploy_stopped


def add_iso(
    cloud: SmallCloud, owner: Principal | None = None, name: str = "drivers", *, public: bool = False
) -> Template:
    return cloud.add_template(owner=owner, name=name, format=ImageFormat.ISO, public=public)[0]


def row(cloud: SmallCloud, vm: Instance) -> Instance:
    return cloud.database.run_now(instances.by_id, vm.id)


def medium(cloud: SmallCloud, vm: Instance) -> str | None:
    """Return the name of the file in the drive of a VM that runs."""
    found = cloud.hypervisor.cd_drive(vm.instance_name).medium
    return found.name if found is not None else None


@pytest_twisted.ensureDeferred
async def test_a_running_vm_has_an_iso_at_once_and_gives_it_back(cloud: SmallCloud) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    job = await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)
    answer = present(job.result)["virtualmachine"]
    assert (answer["isoid"], answer["isoname"], answer["templatename"]) == (iso.uuid, "drivers", "tiny")
    assert medium(cloud, vm) == f"{iso.uuid}.iso"
    listed = await cloud.call("listVirtualMachines", isoid=iso.uuid)
    assert [each["id"] for each in listed["virtualmachine"]] == [vm.uuid]

    job = await cloud.job("detachIso", virtualmachineid=vm.uuid)
    assert "isoid" not in present(job.result)["virtualmachine"]
    assert medium(cloud, vm) is None
    assert await cloud.call("listVirtualMachines", isoid=iso.uuid) == {}
    recorded = [each.type for each in cloud.database.run_now(events.rows.all)]
    assert [each for each in recorded if each.startswith("ISO.")] == ["ISO.ATTACH", "ISO.DETACH"]


@pytest_twisted.ensureDeferred
async def test_a_stopped_vm_has_it_at_its_next_starts(cloud: SmallCloud) -> None:
    vm, iso = await deploy_stopped(cloud), add_iso(cloud)
    assert (await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)).result_code == 0
    assert cloud.primary.copied == []
    await cloud.machines.start(vm.id)
    assert medium(cloud, vm) == f"{iso.uuid}.iso"
    await cloud.machines.reboot(vm.id)
    assert medium(cloud, vm) == f"{iso.uuid}.iso"
    assert cloud.primary.formats.count("iso") == 1
    await cloud.machines.stop(vm.id)
    assert (await cloud.job("detachIso", virtualmachineid=vm.uuid)).result_code == 0
    await cloud.machines.start(vm.id)
    assert medium(cloud, vm) is None


@pytest_twisted.ensureDeferred
async def test_another_iso_replaces_the_first_one_only_by_force(cloud: SmallCloud) -> None:
    vm, first, second = await deploy_running(cloud), add_iso(cloud), add_iso(cloud, name="second")
    for _ in range(2):  # the one that it has is no error
        assert (await cloud.job("attachIso", id=first.uuid, virtualmachineid=vm.uuid)).result_code == 0
    refused = await cloud.job("attachIso", id=second.uuid, virtualmachineid=vm.uuid)
    assert "has another ISO attached already" in present(refused.result)["errortext"]
    assert medium(cloud, vm) == f"{first.uuid}.iso"
    await cloud.job("attachIso", id=second.uuid, virtualmachineid=vm.uuid, forced="true")
    assert (row(cloud, vm).iso_id, medium(cloud, vm)) == (second.id, f"{second.uuid}.iso")


@pytest_twisted.ensureDeferred
async def test_a_guest_that_uses_it_keeps_it_unless_forced(cloud: SmallCloud) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)
    cloud.hypervisor.cd_drive(vm.instance_name).is_locked = True
    refused = await cloud.job("detachIso", virtualmachineid=vm.uuid)
    assert "the guest uses the medium" in present(refused.result)["errortext"]
    assert (row(cloud, vm).iso_id, medium(cloud, vm)) == (iso.id, f"{iso.uuid}.iso")
    assert (await cloud.job("detachIso", virtualmachineid=vm.uuid, forced="true")).result_code == 0
    assert (row(cloud, vm).iso_id, medium(cloud, vm)) == (None, None)


@pytest_twisted.ensureDeferred
async def test_a_vm_of_an_iso_keeps_it_as_its_template(cloud: SmallCloud) -> None:
    iso = cloud.add_template(name="installer", format=ImageFormat.ISO, bootable=True)[0]
    vm = await deploy_by_api(cloud, iso)
    answer = present((await cloud.job("detachIso", virtualmachineid=vm.uuid)).result)["virtualmachine"]
    assert (answer["templateid"], answer.get("isoid"), answer.get("isoname")) == (iso.uuid, None, None)
    assert (await cloud.call("listVirtualMachines", templateid=iso.uuid))["count"] == 1
    with pytest.raises(ApiError, match="Cannot restore the VM since there is no ISO attached to VM"):
        await cloud.call("restoreVirtualMachine", virtualmachineid=vm.uuid)
    restored = await cloud.job("restoreVirtualMachine", virtualmachineid=vm.uuid, templateid=iso.uuid)
    assert present(restored.result)["virtualmachine"]["isoid"] == iso.uuid
    refused = await cloud.job("deleteIso", id=iso.uuid)
    assert "Unable to delete ISO" in present(refused.result)["errortext"]
    await cloud.job("detachIso", virtualmachineid=vm.uuid)
    assert (await cloud.job("deleteIso", id=iso.uuid)).result_code == 0
    unused = cloud.database.run_now(templates.unused_spool_refs, cloud.host.id)
    assert [template.uuid for _, template in unused] == [iso.uuid]
    [listed] = (await cloud.call("listVirtualMachines"))["virtualmachine"]
    assert listed["templateid"] == iso.uuid


@pytest_twisted.ensureDeferred
async def test_what_has_no_iso_or_is_none_is_refused(cloud: SmallCloud) -> None:
    vm, iso, template = await deploy_stopped(cloud), add_iso(cloud), cloud.add_template()[0]
    with pytest.raises(ApiError, match="The specified instance has no ISO attached to it"):
        await cloud.call("detachIso", virtualmachineid=vm.uuid)
    with pytest.raises(ApiError, match="is a template"):
        await cloud.call("attachIso", id=template.uuid, virtualmachineid=vm.uuid)
    with pytest.raises(ApiError, match="is a system VM"):
        await cloud.call("attachIso", id=iso.uuid, virtualmachineid=cloud.ssvm.uuid)
    unready = cloud.add_template(
        state=DownloadState.DOWNLOAD_IN_PROGRESS, format=ImageFormat.ISO, name="new"
    )[0]
    with pytest.raises(IsoNotUsableError, match="ISO new is not ready"):
        await cloud.call("attachIso", id=unready.uuid, virtualmachineid=vm.uuid)
    await cloud.machines.destroy(vm.id)
    with pytest.raises(
        MachineStateError, match=r"Please specify an instance that is either Stopped or Running\."
    ):
        await cloud.call("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)


@pytest_twisted.ensureDeferred
async def test_an_iso_of_another_zone_is_refused(cloud: SmallCloud) -> None:
    vm, iso = await deploy_stopped(cloud), add_iso(cloud)
    await cloud.call("createZone", name="other", dns1="192.0.2.53", internaldns1="10.21.0.2")
    other = cloud.database.run_now(zones.list_zones)[-1]
    cloud.database.run_now(instances.update, vm.id, zone_id=other.id)
    with pytest.raises(IsoNotUsableError, match=r"ISO is not available in the zone the instance is in\."):
        await cloud.call("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)


@pytest_twisted.ensureDeferred
async def test_only_isos_that_caller_and_owner_may_use_are_attached(cloud: SmallCloud) -> None:
    mine, others = await deploy_stopped(cloud, cloud.user), await deploy_stopped(cloud)
    private = add_iso(cloud, cloud.admin)
    with pytest.raises(ApiError, match="must not operate"):
        await cloud.call("attachIso", cloud.user, id=private.uuid, virtualmachineid=others.uuid)
    with pytest.raises(ApiError, match="must not operate"):
        await cloud.call("detachIso", cloud.user, virtualmachineid=others.uuid)
    with pytest.raises(ApiError, match="must not use this template"):
        await cloud.call("attachIso", cloud.user, id=private.uuid, virtualmachineid=mine.uuid)
    with pytest.raises(ApiError, match=r"account users, which owns .* must not use ISO drivers"):
        await cloud.call("attachIso", id=private.uuid, virtualmachineid=mine.uuid)

    usable = [add_iso(cloud, cloud.user), add_iso(cloud, cloud.admin, public=True)]
    cloud.database.run_now(template_permissions.add, private.id, [cloud.user.account.id])
    for iso in (*usable, private):
        job = await cloud.job("attachIso", cloud.user, id=iso.uuid, virtualmachineid=mine.uuid, forced="true")
        assert (job.result_code, row(cloud, mine).iso_id) == (0, iso.id)


@pytest_twisted.ensureDeferred
async def test_an_iso_that_is_attached_is_not_deleted_and_its_copy_goes_after_it(cloud: SmallCloud) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)
    copies = TemplateCopies(cloud.database, cloud.pools, host_id=cloud.host.id)
    copy = cloud.primary.directory / f"{iso.uuid}.iso"
    refused = await cloud.job("deleteIso", id=iso.uuid)
    assert "Unable to delete ISO, as it's used by" in present(refused.result)["errortext"]
    await cloud.job("detachIso", virtualmachineid=vm.uuid)
    await copies.remove_unused()
    assert copy.exists()
    assert (await cloud.job("deleteIso", id=iso.uuid)).result_code == 0
    await copies.remove_unused()
    assert not copy.exists()
    with pytest.raises(NotFoundError):
        await cloud.call("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)


@pytest_twisted.ensureDeferred
async def test_an_iso_that_was_deleted_meanwhile_is_not_attached(cloud: SmallCloud) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    job = start_unfinished(cloud, "attachIso", id=vm.id, iso_id=iso.id, forced=False)
    await cloud.machines.iso_drives._storage.copy_iso(iso.id)
    cloud.database.run_now(templates.request_deletion, iso.id)
    ended = await resume(cloud, job)
    assert "ISO drivers was deleted" in present(ended.result)["errortext"]
    assert (row(cloud, vm).iso_id, medium(cloud, vm)) == (None, None)
    await TemplateCopies(cloud.database, cloud.pools, host_id=cloud.host.id).remove_unused()
    assert list(cloud.primary.directory.glob("*.iso")) == []


@pytest_twisted.ensureDeferred
async def test_a_vm_that_is_started_before_its_iso_is_attached_is_not_held_by_the_copy(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    copy = HangingOperation(cloud, monkeypatch, "ensure_template")
    async with cloud.machines.lock.acquire(vm.id):
        runs = cloud.hypervisor.statuses.pop(vm.instance_name)
        attachment = await cloud.call("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)
        await settled(cloud.database)
        cloud.hypervisor.statuses[vm.instance_name] = runs
    await copy.begun
    await cloud.machines.stop(vm.id, forced=True)
    copy.answer()
    assert (await cloud.jobs.wait(attachment["jobid"])).result_code == 0
    assert row(cloud, vm).iso_id == iso.id
    await cloud.machines.start(vm.id)
    assert medium(cloud, vm) == f"{iso.uuid}.iso"


@pytest.mark.parametrize(
    "fail",
    [
        lambda cloud: setattr(cloud.primary, "fails_with", PrimaryStorageError("no space is left")),
        lambda cloud: setattr(cloud.hypervisor, "fails_with", HypervisorError("QEMU did not take it")),
    ],
    ids=["full disk", "QEMU"],
)
@pytest_twisted.ensureDeferred
async def test_a_failed_attachment_says_why_and_leaves_none(
    cloud: SmallCloud, fail: Callable[[SmallCloud], None]
) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    fail(cloud)
    job = await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)
    text = present(job.result)["errortext"]
    assert "no space is left" in text or "QEMU did not take it" in text
    assert row(cloud, vm).iso_id is None


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_was_killed_after_each_step_attaches_it_after_its_start(
    cloud: SmallCloud,
) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    arguments = {"id": vm.id, "iso_id": iso.id, "forced": False}

    def record(connection: Connection) -> None:
        instances.update(connection, vm.id, iso_id=iso.id)

    for step in (lambda: None, lambda: cloud.database.run_now(record)):
        step()
        assert (await resume(cloud, start_unfinished(cloud, "attachIso", **arguments))).result_code == 0
        assert (row(cloud, vm).iso_id, medium(cloud, vm)) == (iso.id, f"{iso.uuid}.iso")
        await cloud.job("detachIso", virtualmachineid=vm.uuid)
    # its row is the last thing that a detachment changes
    await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)
    await cloud.hypervisor.cd_drive(vm.instance_name).eject()
    for _ in range(2):
        ended = await resume(cloud, start_unfinished(cloud, "detachIso", id=vm.id, forced=False))
        assert (ended.result_code, row(cloud, vm).iso_id) == (0, None)


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_ends_in_the_middle_leaves_it_to_the_next(cloud: SmallCloud) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    cloud.hypervisor.cd_drive(vm.instance_name).fails_with = CancelledError()
    with pytest.raises(CancelledError):
        await cloud.machines.iso_drives.attach(vm.id, iso.id)
    assert row(cloud, vm).iso_id == iso.id


@pytest_twisted.ensureDeferred
async def test_a_vm_that_ends_keeps_its_iso(cloud: SmallCloud) -> None:
    vm, iso = await deploy_running(cloud), add_iso(cloud)
    await cloud.job("attachIso", id=iso.uuid, virtualmachineid=vm.uuid)
    cloud.hypervisor.exit(vm.instance_name, ExitReason.KILLED)
    await cloud.machines.stop(vm.id, forced=True)
    assert row(cloud, vm).state is InstanceState.STOPPED
    await cloud.machines.start(vm.id)
    assert medium(cloud, vm) == f"{iso.uuid}.iso"
