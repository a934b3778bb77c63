# SPDX-License-Identifier: Apache-2.0
"""Copies of templates on primary storage are kept while a machine uses them, then removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from small_cloud import SmallCloud
from systemvm.management.state import schema, templates
from systemvm.management.state.status import InstanceState
from systemvm.management.state.templates import Template
from systemvm.management.templates.copies import TemplateCopies
from systemvm.management.virtual_machines.errors import NotDeployableError
from systemvm.wire.storage import ImageFormat
from user_vms import deploy_running, deploy_stopped


@pytest.fixture
def copies(cloud: SmallCloud) -> TemplateCopies:
    return TemplateCopies(cloud.database, cloud.pools, host_id=cloud.host.id)


def copy_of(cloud: SmallCloud, template: Template) -> Path:
    return cloud.primary.directory / f"{template.uuid}.{template.format.extension}"


def refs(cloud: SmallCloud, template: Template) -> list[Any]:
    """Return the rows of existing copies."""
    table = schema.template_spool_refs.c
    return cloud.database.run_now(
        templates.spool_refs.all, table.template_id == template.id, table.removed.is_(None)
    )


@pytest_twisted.ensureDeferred
async def test_a_copy_outlives_its_template_until_its_last_machine(
    cloud: SmallCloud, copies: TemplateCopies
) -> None:
    template, _ = cloud.add_template()
    first, second = (
        await deploy_running(cloud, template=template),
        await deploy_running(cloud, template=template),
    )
    await cloud.templates.delete(template.id, forced=True)
    await cloud.machines.stop(first.id)
    for vm in (first, second):
        await copies.remove_unused()
        assert copy_of(cloud, template).exists()
        assert len(refs(cloud, template)) == 1
        await cloud.machines.destroy(vm.id, expunge=True)
    await copies.remove_unused()
    assert not copy_of(cloud, template).exists()
    assert refs(cloud, template) == []
    await copies.remove_unused()  # nothing is left to remove


@pytest_twisted.ensureDeferred
async def test_a_template_that_is_not_deleted_keeps_its_copy(
    cloud: SmallCloud, copies: TemplateCopies
) -> None:
    template, _ = cloud.add_template()
    vm = await deploy_running(cloud, template=template)
    await cloud.machines.destroy(vm.id, expunge=True)
    await copies.remove_unused()
    assert copy_of(cloud, template).exists()
    assert len(refs(cloud, template)) == 1


@pytest_twisted.ensureDeferred
async def test_copy_of_a_deleted_iso_is_removed_like_a_templates(
    cloud: SmallCloud, copies: TemplateCopies
) -> None:
    iso, _ = cloud.add_template(format=ImageFormat.ISO)
    other, _ = cloud.add_template()
    vm = await deploy_running(cloud, template=iso)
    await deploy_running(cloud, template=other)
    await cloud.machines.destroy(vm.id, expunge=True)
    await cloud.templates.delete(iso.id)
    await copies.remove_unused()
    assert not copy_of(cloud, iso).exists()
    assert refs(cloud, iso) == []
    assert copy_of(cloud, other).exists()


@pytest_twisted.ensureDeferred
async def test_iso_in_a_machines_drive_keeps_its_copy_after_removal(
    cloud: SmallCloud, copies: TemplateCopies
) -> None:
    iso, _ = cloud.add_template(format=ImageFormat.ISO)
    await deploy_running(cloud, template=iso)
    cloud.database.run_now(templates.remove, iso.id)
    await copies.remove_unused()
    assert copy_of(cloud, iso).exists()


@pytest_twisted.ensureDeferred
async def test_copy_made_by_a_concurrent_start_is_kept(cloud: SmallCloud, copies: TemplateCopies) -> None:
    template, _ = cloud.add_template()
    vm = await deploy_stopped(cloud, template=template)
    gate: Deferred[None] = Deferred()
    entered: Deferred[None] = Deferred()
    ensure = cloud.primary.ensure_template

    async def slow(*arguments: Any) -> Path:
        path = await ensure(*arguments)
        if not entered.called:
            entered.callback(None)
            await gate
        return path

    cloud.primary.ensure_template = slow  # type: ignore[method-assign, assignment]
    starting = Deferred.fromCoroutine(cloud.machines.start(vm.id))
    await entered
    await cloud.templates.delete(template.id, forced=True)
    await copies.remove_unused()
    assert copy_of(cloud, template).exists()
    gate.callback(None)
    assert (await starting).state is InstanceState.RUNNING
    await copies.remove_unused()
    assert copy_of(cloud, template).exists()
    with pytest.raises(NotDeployableError, match="was deleted"):
        await deploy_stopped(cloud, template=template)


@pytest_twisted.ensureDeferred
async def test_failed_deletion_of_a_copy_is_retried(cloud: SmallCloud, copies: TemplateCopies) -> None:
    template, _ = cloud.add_template()
    vm = await deploy_running(cloud, template=template)
    await cloud.machines.destroy(vm.id, expunge=True)
    await cloud.templates.delete(template.id)
    cloud.primary.fails_with = PermissionError(1, "Operation not permitted")
    await copies.remove_unused()
    assert len(refs(cloud, template)) == 1
    cloud.primary.fails_with = None
    await copies.remove_unused()
    assert refs(cloud, template) == []
    assert not copy_of(cloud, template).exists()


@pytest_twisted.ensureDeferred
async def test_copies_of_another_host_stay(cloud: SmallCloud) -> None:
    template, _ = cloud.add_template()
    vm = await deploy_running(cloud, template=template)
    await cloud.machines.destroy(vm.id, expunge=True)
    await cloud.templates.delete(template.id)
    await TemplateCopies(cloud.database, cloud.pools, host_id=cloud.host.id + 1).remove_unused()
    assert copy_of(cloud, template).exists()
