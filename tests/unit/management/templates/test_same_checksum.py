# SPDX-License-Identifier: Apache-2.0
"""A file that is on a store already is copied and not fetched again, for those who could read it anyway."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state import accounts, template_permissions, templates, zones
from systemvm.management.state.copy_sources import choose_twin
from systemvm.management.state.status import AccountType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.templates.copy_orders import MAX_COPY_FAILURES
from systemvm.wire import storage
from systemvm.wire.storage import DownloadError, DownloadState, DownloadStatus, ImageFormat

READY, FAILED, WAITING = (
    DownloadState.DOWNLOADED,
    DownloadState.DOWNLOAD_ERROR,
    DownloadState.NOT_DOWNLOADED,
)
CHECKSUM = "{SHA-256}" + "ab" * 32


def add_source(cloud: SmallCloud, *, is_plain: bool = True, **columns: Any) -> tuple[Template, StoreRef]:
    """A Ready template of the user, stored as it was sent unless it is not `is_plain`."""
    template, ref = cloud.add_template(owner=columns.pop("owner", cloud.user), **columns)
    changes = {"checksum": CHECKSUM, "total_bytes": 100, "physical_size_bytes": 100 if is_plain else 300}
    return template, cloud.database.run_now(templates.update_store_ref, ref.id, **changes)


def add_wanted(cloud: SmallCloud, **columns: Any) -> tuple[Template, StoreRef]:
    columns = {"checksum": CHECKSUM, "url": "https://other.example.test/x.qcow2"} | columns
    return cloud.add_template(owner=columns.pop("owner", cloud.user), state=WAITING, **columns)


def twin(cloud: SmallCloud, **columns: Any) -> int | None:
    template, ref = add_wanted(cloud, **columns)
    found = cloud.database.run_now(choose_twin, ref, template)
    return None if found is None else found.ref.id


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_on_the_store_is_not_fetched_again(cloud: SmallCloud) -> None:
    _, source = add_source(cloud)
    _, ref = add_wanted(cloud)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, READY, 100, 100, checksum=CHECKSUM
    )
    await cloud.dispatch.reconcile()
    [request] = cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD) == []
    assert (request.source, request.store) == (cloud.store.wire, cloud.store.wire)
    assert request.source_file == templates.file_of(source)
    assert (request.source_checksum, request.checksum) == (CHECKSUM, CHECKSUM)
    assert cloud.database.run_now(templates.store_refs.by_id, ref.id).is_ready


@pytest_twisted.ensureDeferred
async def test_the_url_is_used_when_the_file_on_the_store_is_damaged(cloud: SmallCloud) -> None:
    add_source(cloud)
    _, ref = add_wanted(cloud)
    cloud.ssvm_peer.answers[storage.TEMPLATE_COPY] = lambda request: DownloadStatus(
        request.job_id, FAILED, error=DownloadError("checksum_mismatch", "differs")
    )
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda request: DownloadStatus(request.job_id, READY)
    for _ in range(MAX_COPY_FAILURES + 1):
        await cloud.dispatch.reconcile()
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY)) == MAX_COPY_FAILURES
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)) == 1
    assert cloud.database.run_now(templates.store_refs.by_id, ref.id).is_ready


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_copied_counts_for_its_account(cloud: SmallCloud) -> None:
    cloud.settings.storage = SecondaryStorageConfig(max_account_secondary_storage_gib=1)
    _, source = add_source(cloud)
    size = (1 << 29) + 1
    cloud.database.run_now(templates.update_store_ref, source.id, physical_size_bytes=size, total_bytes=size)
    _, ref = add_wanted(cloud)
    await cloud.dispatch.reconcile()
    failed = cloud.database.run_now(templates.store_refs.by_id, ref.id)
    assert (failed.state, failed.error_code) == (FAILED, "quota_exceeded")
    assert cloud.ssvm_peer.params_of(storage.TEMPLATE_COPY) == []


def test_a_digest_alone_opens_no_template_of_another_account(cloud: SmallCloud) -> None:
    source, ref = add_source(cloud, owner=cloud.admin)

    def seen(**changes: Any) -> bool:
        cloud.database.run_now(templates.update, source.id, **changes)
        return twin(cloud) == ref.id

    assert not seen(public=False, extractable=False)
    assert not seen(public=False, extractable=True)
    assert not seen(public=True, extractable=False)  # it can be booted, and not be taken away
    assert seen(public=True, extractable=True)
    assert not seen(public=False, featured=True)
    others = cloud.database.run_now(
        lambda c: accounts.create_account(c, "others", AccountType.USER, cloud.user.domain.id)
    )
    cloud.database.run_now(template_permissions.add, source.id, [others.id])
    assert not seen(extractable=True)
    cloud.database.run_now(template_permissions.add, source.id, [cloud.user.account.id])
    assert seen(extractable=True)
    assert not seen(extractable=False)


@pytest.mark.parametrize(
    "wanted",
    [
        {"checksum": None},
        {"checksum": "{SHA-256}" + "ac" * 32},
        {"checksum": "https://other.example.test/SHA256SUMS"},
        {"checksum": "no checksum"},
        {"format": ImageFormat.RAW},
        {"url": "oci://registry.example.test/x:1"},
    ],
)
def test_another_file_or_format_is_no_twin(cloud: SmallCloud, wanted: dict[str, Any]) -> None:
    add_source(cloud)
    assert twin(cloud, **wanted) is None
    assert twin(cloud) is not None


def test_a_digest_that_two_files_can_be_made_for_is_none(cloud: SmallCloud) -> None:
    _, ref = add_source(cloud)
    for weak in ("{MD5}" + "ab" * 16, "{SHA-1}" + "ab" * 20):
        cloud.database.run_now(templates.update_store_ref, ref.id, checksum=weak)
        assert twin(cloud, checksum=weak) is None


def test_a_source_must_be_ready_verifiable_and_in_the_zone(cloud: SmallCloud) -> None:
    _, ref = add_source(cloud, is_plain=False)
    assert twin(cloud) is None  # nobody knows the digest of what is on the store
    cloud.database.run_now(templates.update_store_ref, ref.id, image_checksum="{SHA-256}" + "cd" * 32)
    assert twin(cloud) == ref.id
    cloud.database.run_now(templates.update_store_ref, ref.id, state=FAILED)
    assert twin(cloud) is None
    cloud.database.run_now(templates.update_store_ref, ref.id, state=READY)
    zone = cloud.database.run_now(zones.put_zone, "zone2", arch="amd64")
    far = cloud.database.run_now(
        zones.add_store, name="far", zone_id=zone.id, url="nfs://10.12.0.4/x", nfs_version="4.2"
    )
    cloud.database.run_now(templates.update_store_ref, ref.id, store_id=far.id)
    assert twin(cloud) is None


def test_a_source_that_is_being_deleted_is_none(cloud: SmallCloud) -> None:
    source, _ = add_source(cloud)
    cloud.database.run_now(templates.request_deletion, source.id)
    assert twin(cloud) is None


def test_the_disk_of_a_container_disk_is_not_the_file_with_its_digest(cloud: SmallCloud) -> None:
    add_source(cloud, url="oci://registry.example.test/x:1")
    assert twin(cloud) is None
