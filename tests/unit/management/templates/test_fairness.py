# SPDX-License-Identifier: Apache-2.0
"""Slots of SSVMs are shared among accounts and zones."""

from __future__ import annotations

import pytest_twisted
import sqlalchemy as sa

from small_cloud import SmallCloud
from systemvm.management.state import accounts, templates, zones
from systemvm.management.state.status import AccountType
from systemvm.management.templates.wait_reason import WaitReason
from systemvm.wire import storage
from systemvm.wire.storage import (
    MAX_ACTIVE_DOWNLOADS,
)
from template_downloads import (
    refs_of,
    register,
    started,
)


def add_account(cloud: SmallCloud, name: str) -> int:
    return cloud.database.run_now(lambda c: accounts.create_account(c, name, AccountType.USER, 1).id)


@pytest_twisted.ensureDeferred
async def test_no_account_gets_all_slots(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    many, few = add_account(cloud, "many"), add_account(cloud, "few")
    register(cloud, many, 500)
    register(cloud, few, 2)
    await cloud.dispatch.reconcile()
    given = owners_of_given(cloud)
    assert len(given) == MAX_ACTIVE_DOWNLOADS
    assert given.count(few) == 2, "two downloads do not wait for 500 of another account"


@pytest_twisted.ensureDeferred
async def test_free_slot_goes_to_the_account_with_fewest_downloads(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    many, late = add_account(cloud, "many"), add_account(cloud, "late")
    register(cloud, many, 50)
    await cloud.dispatch.reconcile()
    register(cloud, late, 3)
    await cloud.dispatch.reconcile()
    assert owners_of_given(cloud) == [many] * MAX_ACTIVE_DOWNLOADS
    for ref in [ref for ref in refs_of(cloud) if ref.agent_name][:3]:
        await cloud.from_agent(
            cloud.ssvm,
            storage.TEMPLATE_FINISHED,
            {"job_id": ref.job_id, "state": "DOWNLOADED", "received_bytes": 1, "total_bytes": 1},
        )
    await cloud.dispatch.reconcile()
    running = [ref for ref in refs_of(cloud) if ref.agent_name and not ref.state.ended]
    owners = [cloud.database.run_now(templates.by_id, ref.template_id).account_id for ref in running]
    assert sorted(owners) == sorted([many] * (MAX_ACTIVE_DOWNLOADS - 3) + [late] * 3)


@pytest_twisted.ensureDeferred
async def test_zone_without_an_ssvm_does_not_affect_another(cloud: SmallCloud) -> None:
    def add(connection: sa.Connection) -> int:
        zone = zones.put_zone(connection, "dark", arch="amd64", description="", dns=[], internal_dns=[])
        return zones.put_store(
            connection, "far", zone_id=zone.id, url="nfs://10.12.0.9/x", host_path=None, nfs_version="4.2"
        ).id

    far = cloud.database.run_now(add)
    bright, cloud.store = cloud.store, cloud.database.run_now(zones.store_by_id, far)
    register(cloud, cloud.admin.account.id, 300)
    cloud.store = bright
    register(cloud, cloud.admin.account.id, 1)
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()
    [given] = [ref for ref in refs_of(cloud) if ref.agent_name]
    assert given.store_id == bright.id
    dark = [ref for ref in refs_of(cloud) if ref.store_id == far]
    assert {ref.error_code for ref in dark[:200]} == {WaitReason.NO_SSVM.value}


def owners_of_given(cloud: SmallCloud) -> list[int]:
    given = [ref for ref in refs_of(cloud) if ref.agent_name]
    return [cloud.database.run_now(templates.by_id, ref.template_id).account_id for ref in given]
