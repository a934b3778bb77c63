# SPDX-License-Identifier: Apache-2.0
"""Deleting an account deletes its machines and templates, also after an interruption."""

from __future__ import annotations

import pytest
import pytest_twisted

from present import present
from small_cloud import SmallCloud
from systemvm.management.state import accounts, instances, templates, volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceState
from systemvm.wire.storage import ImageFormat
from user_accounts import new_account
from user_vms import deploy_running


@pytest_twisted.ensureDeferred
async def test_deleted_account_leaves_only_history(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    template, _ = cloud.add_template(owner=ada, public=True)
    mine, others = (
        await deploy_running(cloud, ada, template),
        await deploy_running(cloud, cloud.user, template),
    )
    destroyed = await deploy_running(cloud, ada)
    await cloud.machines.destroy(destroyed.id)
    disks = [cloud.database.run_now(volumes.root_of, vm.id) for vm in (mine, others)]
    assert (await cloud.job("deleteAccount", id=ada.account.uuid)).result == {"success": True}
    for vm in (mine, destroyed):
        assert cloud.instance(vm.id).removed is not None
    assert [cloud.primary.volume_path(present(disk).uuid).exists() for disk in disks] == [False, True]
    assert cloud.database.run_now(templates.by_id, template.id).removed is not None
    assert (await cloud.machines.start(others.id)).state is InstanceState.RUNNING
    assert "ada" not in {row["name"] for row in (await cloud.call("listAccounts"))["account"]}
    with pytest.raises(NotFoundError):
        await cloud.call("enableAccount", id=ada.account.uuid)
    again = await new_account(cloud)
    assert again.account.id != ada.account.id, "the name can be used again, the id cannot"


@pytest_twisted.ensureDeferred
async def test_interrupted_deletion_continues_after_a_restart(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    vm = await deploy_running(cloud, ada)
    await cloud.account_service.disable_account(ada.account.id, lock=True)
    await cloud.machines.destroy(vm.id)
    await cloud.account_service.delete_account(ada.account.id)
    assert cloud.instance(vm.id).removed is not None
    assert cloud.database.run_now(accounts.account_by_id, ada.account.id).removed is not None
    await cloud.account_service.delete_account(ada.account.id)  # a repetition changes nothing


@pytest_twisted.ensureDeferred
async def test_iso_in_use_by_another_account_outlives_its_account(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    iso, _ = cloud.add_template(owner=ada, public=True, format=ImageFormat.ISO)
    vm = await deploy_running(cloud, cloud.user, iso)
    assert (await cloud.job("deleteAccount", id=ada.account.uuid)).result_code == 0
    assert cloud.database.run_now(templates.by_id, iso.id).removed is None
    [row] = (await cloud.call("listIsos", isofilter="all"))["iso"]
    assert row["account"] == "ada"
    await cloud.machines.destroy(vm.id, expunge=True)
    assert (await cloud.job("deleteIso", id=iso.uuid)).result_code == 0


@pytest_twisted.ensureDeferred
async def test_machines_created_during_an_accounts_deletion_are_deleted(cloud: SmallCloud) -> None:
    ada = await new_account(cloud)
    first = await deploy_running(cloud, ada)
    destroy = cloud.machines.destroy
    made: list[Instance] = []

    async def destroy_slowly(vm_id: int, *, expunge: bool = False) -> Instance:
        if not made:
            await cloud.account_service.enable_account(ada.account.id)
            made.append(await deploy_running(cloud, ada))
        return await destroy(vm_id, expunge=expunge)

    cloud.machines.destroy = destroy_slowly  # type: ignore[method-assign]
    await cloud.account_service.delete_account(ada.account.id)
    for vm in (first, *made):
        assert cloud.database.run_now(instances.by_id, vm.id).removed is not None
