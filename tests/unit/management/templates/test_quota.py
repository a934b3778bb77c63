# SPDX-License-Identifier: Apache-2.0
"""What an account can still store in a zone goes with each download."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from small_cloud import SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state import templates, zones
from systemvm.wire import storage
from systemvm.wire.storage import DownloadState
from template_downloads import WAITING

GIB = 1 << 30


async def quota_of_a_download(cloud: SmallCloud, **columns: Any) -> int | None:
    cloud.add_template(state=WAITING, **({"owner": cloud.user} | columns))
    await cloud.dispatch.reconcile()
    quota: int | None = cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)[-1].quota_bytes
    return quota


def limit(cloud: SmallCloud, gib: int | None) -> None:
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=gib)


def add_ready(cloud: SmallCloud, size_bytes: int, **columns: Any) -> tuple[templates.Template, int]:
    template, ref = cloud.add_template(**({"owner": cloud.user} | columns))
    cloud.database.run_now(templates.update_store_ref, ref.id, physical_size_bytes=size_bytes)
    return template, ref.id


@pytest_twisted.ensureDeferred
async def test_without_a_limit_there_is_no_quota(cloud: SmallCloud) -> None:
    add_ready(cloud, GIB)
    assert await quota_of_a_download(cloud) is None


@pytest_twisted.ensureDeferred
async def test_ready_templates_and_isos_count(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    add_ready(cloud, GIB)
    add_ready(cloud, GIB, owner=cloud.admin)
    assert await quota_of_a_download(cloud) == 3 * GIB


@pytest_twisted.ensureDeferred
async def test_an_account_that_has_more_has_nothing_left(cloud: SmallCloud) -> None:
    limit(cloud, 1)
    add_ready(cloud, 2 * GIB)
    assert await quota_of_a_download(cloud) == 0


@pytest_twisted.ensureDeferred
async def test_administrators_are_not_limited(cloud: SmallCloud) -> None:
    limit(cloud, 1)
    assert await quota_of_a_download(cloud, owner=cloud.admin) is None


@pytest_twisted.ensureDeferred
async def test_copies_and_deleted_templates_do_not_count(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    template, _ = add_ready(cloud, GIB)
    second = cloud.database.run_now(
        zones.add_store, name="second", zone_id=cloud.zone.id, url="nfs://10.12.0.3/x", nfs_version="4.2"
    )
    copy = cloud.database.run_now(templates.add_store_ref, template.id, second.id, None)
    ready = {"state": DownloadState.DOWNLOADED, "physical_size_bytes": GIB}
    cloud.database.run_now(templates.update_store_ref, copy.id, **ready)
    deleted, _ = add_ready(cloud, GIB)
    cloud.database.run_now(templates.request_deletion, deleted.id)
    assert await quota_of_a_download(cloud) == 3 * GIB


@pytest_twisted.ensureDeferred
async def test_what_another_ssvm_receives_counts_already(cloud: SmallCloud) -> None:
    limit(cloud, 4)
    _, ref_id = add_ready(cloud, 0)
    running = {"state": DownloadState.DOWNLOAD_IN_PROGRESS, "total_bytes": GIB, "agent_name": "s-99-VM"}
    cloud.database.run_now(templates.update_store_ref, ref_id, **running)
    assert await quota_of_a_download(cloud) == 3 * GIB
