# SPDX-License-Identifier: Apache-2.0
"""A template's copy on primary storage that somebody has removed beneath the clones of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import templates
from systemvm.management.state.status import InstanceState
from systemvm.management.virtual_machines.errors import MachineError
from user_vms import deploy_running, root_of


async def stopped_without_base(cloud: SmallCloud) -> tuple[int, Path]:
    """Return a VM that is stopped, and the base of its disk, which is gone."""
    vm = await deploy_running(cloud)
    await cloud.machines.stop(vm.id, forced=True)
    base, _, _ = cloud.primary.clones[root_of(cloud, vm).uuid]
    base.unlink()
    return vm.id, base


@pytest_twisted.ensureDeferred
async def test_a_base_that_somebody_removed_is_copied_again(cloud: SmallCloud) -> None:
    vm_id, base = await stopped_without_base(cloud)
    clones = dict(cloud.primary.clones)
    started = await cloud.machines.start(vm_id)
    assert started.state is InstanceState.RUNNING
    assert base.exists()
    assert len(cloud.primary.copied) == 2
    assert cloud.primary.clones == clones, "the disk is the same"
    await cloud.machines.stop(vm_id, forced=True)
    await cloud.machines.start(vm_id)
    assert len(cloud.primary.copied) == 2, "once"


@pytest_twisted.ensureDeferred
async def test_a_copy_that_fails_is_tried_again_by_the_next_start(cloud: SmallCloud) -> None:
    vm_id, base = await stopped_without_base(cloud)
    cloud.primary.fails_with = PrimaryStorageError("image store does not answer")
    for _ in range(2):
        with pytest.raises(PrimaryStorageError):
            await cloud.machines.start(vm_id)
    assert "image store does not answer" in (cloud.instance(vm_id).reason or "")
    cloud.primary.fails_with = None
    assert (await cloud.machines.start(vm_id)).state is InstanceState.RUNNING
    assert base.exists()


@pytest_twisted.ensureDeferred
async def test_a_base_that_is_nowhere_is_named_with_what_to_do(cloud: SmallCloud) -> None:
    vm_id, base = await stopped_without_base(cloud)
    template_id = cloud.instance(vm_id).template_id
    assert template_id is not None
    cloud.database.run_now(templates.remove, template_id)
    with pytest.raises(MachineError) as refused:
        await cloud.machines.start(vm_id)
    assert (str(base) in refused.value.message, "from a backup" in refused.value.hint) == (True, True)
    vm = cloud.instance(vm_id)
    assert (vm.state, str(base) in (vm.reason or "")) == (InstanceState.STOPPED, True)
    base.touch()
    assert (await cloud.machines.start(vm_id)).state is InstanceState.RUNNING


@pytest_twisted.ensureDeferred
async def test_a_disk_without_a_base_needs_none(cloud: SmallCloud) -> None:
    vm_id, base = await stopped_without_base(cloud)
    cloud.primary.clones.clear()  # as after revertSnapshot
    assert (await cloud.machines.start(vm_id)).state is InstanceState.RUNNING
    assert not base.exists()
