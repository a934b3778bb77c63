# SPDX-License-Identifier: Apache-2.0
"""Templates that machines use are deleted only by force, and their machines can still start."""

from __future__ import annotations

import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.state import templates
from systemvm.management.state.columns import now
from systemvm.management.state.status import InstanceState
from user_vms import deploy_running, deploy_stopped


@pytest_twisted.ensureDeferred
async def test_template_in_use_is_deleted_only_by_force(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    vm = await deploy_running(cloud, template=template)
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert (job.result_code, job.result["errortext"]) == (
        431,
        f"Unable to delete template with id: {template.uuid} because VM instances: [{vm.name}] are using it.",
    )
    assert cloud.database.run_now(templates.by_id, template.id).removed is None
    await cloud.machines.destroy(vm.id)
    job = await cloud.job("deleteTemplate", id=template.uuid)
    assert job.result_code == 431, "a recoverable machine uses it too"
    await cloud.machines.expunge(vm.id)
    assert (await cloud.job("deleteTemplate", id=template.uuid)).result_code == 0


@pytest_twisted.ensureDeferred
async def test_clones_of_a_template_deleted_by_force_can_start(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    clone = await deploy_running(cloud, template=template)
    await cloud.machines.stop(clone.id)
    never_started = await deploy_stopped(cloud, template=template)
    assert (await cloud.job("deleteTemplate", id=template.uuid, forced="true")).result_code == 0
    cloud.database.run_now(templates.update_store_ref, ref.id, removed=now())
    for vm in (clone, never_started):
        assert (await cloud.machines.start(vm.id)).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_deleted_template_is_copied_for_machines_without_a_disk(cloud: SmallCloud) -> None:
    template, ref = cloud.add_template()
    vm = await deploy_stopped(cloud, template=template)
    assert cloud.primary.copied == []
    await cloud.templates.delete(template.id, forced=True)
    assert len(cloud.primary.copied) == 1, "copied before its file is deleted from the store"
    cloud.database.run_now(templates.update_store_ref, ref.id, removed=now())
    assert (await cloud.machines.start(vm.id)).state is InstanceState.RUNNING
    assert len(cloud.primary.copied) == 1


@pytest_twisted.ensureDeferred
async def test_template_is_kept_when_it_cannot_be_copied_for_its_machines(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    await deploy_stopped(cloud, template=template)
    cloud.primary.fails_with = OSError("no room")
    job = await cloud.job("deleteTemplate", id=template.uuid, forced="true")
    assert job.result_code != 0
    assert cloud.database.run_now(templates.by_id, template.id).removed is None
    cloud.primary.fails_with = None
    assert (await cloud.job("deleteTemplate", id=template.uuid, forced="true")).result_code == 0
