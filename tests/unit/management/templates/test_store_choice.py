# SPDX-License-Identifier: Apache-2.0
"""Which store gets new content."""

from __future__ import annotations

from typing import Any

import pytest

from systemvm.management.state.columns import now
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates.store_choice import NoStoreError, StoresFullError, choose_store


def store(number: int, used: int | None = 0, **columns: Any) -> ImageStore:
    values: dict[str, Any] = {
        "id": number,
        "uuid": f"store-{number}",
        "zone_id": 1,
        "name": f"store{number}",
        "url": f"nfs://10.12.0.{number}/export",
        "host_path": None,
        "nfs_version": "4.2",
        "read_only": False,
        "capacity_bytes": None if used is None else 1000,
        "used_bytes": used,
        "provider": "NFS",
        "origin": "file",
        "mount_options": "",
        "retiring": None,
        "role": "Image",
        "created": now(),
        "removed": None,
    }
    return ImageStore(**(values | columns))


def test_the_least_full_store_is_chosen_with_what_is_on_its_way() -> None:
    first, second = store(1, 100), store(2, 200)
    assert choose_store([first, second], 0.9) is first
    assert choose_store([first, second], 0.9, {1: 300}) is second


def test_a_store_without_room_for_the_content_is_not_chosen() -> None:
    first, second = store(1, 100, capacity_bytes=200), store(2, 600)
    assert choose_store([first, second], 0.9, size_bytes=200) is second
    with pytest.raises(StoresFullError) as full:
        choose_store([first, second], 0.9, size_bytes=700)
    assert [each.name for each in full.value.stores] == ["store1", "store2"]


def test_a_store_that_was_never_measured_counts_as_empty() -> None:
    assert choose_store([store(1, 10), store(2, None)], 0.9, size_bytes=500).id == 2


def bucket(number: int, used: int, capacity: int | None = None) -> ImageStore:
    columns = {"provider": "S3", "url": f"https://s3.test/images{number}"}
    return store(number, used, capacity_bytes=capacity, **columns)


def test_a_bucket_without_a_capacity_is_as_large_as_the_largest_store_beside_it() -> None:
    export = store(1, 400, capacity_bytes=1000)
    assert choose_store([export, bucket(2, 300)], 0.9).id == 2
    assert choose_store([export, bucket(2, 500)], 0.9).id == 1
    assert choose_store([export, bucket(2, 300)], 0.9, {2: 200}).id == 1, "what is on its way counts"
    small = store(3, 0, capacity_bytes=10)
    assert choose_store([export, small, bucket(2, 300)], 0.9).id == 3


def test_a_bucket_without_a_capacity_is_never_full() -> None:
    full = [store(1, 950), bucket(2, 5000)]
    assert choose_store(full, 0.9, size_bytes=10_000).id == 2
    with pytest.raises(StoresFullError):
        choose_store([store(1, 950), bucket(2, 5000, capacity=5000)], 0.9)


def test_buckets_without_a_capacity_are_compared_by_what_they_hold() -> None:
    assert choose_store([bucket(1, 500), bucket(2, 300)], 0.9).id == 2
    assert choose_store([bucket(1, 0), bucket(2, 0)], 0.9, size_bytes=1 << 50).id == 1
    assert choose_store([bucket(1, 500), bucket(2, 300)], 0.9, {2: 300}).id == 1


@pytest.mark.parametrize(
    ("stores", "message"),
    [
        ([], "has no image store"),
        ([store(1, read_only=True)], "read-only"),
        ([store(1, read_only=True), store(2, retiring=now())], "being retired"),
    ],
)
def test_read_only_and_retiring_stores_get_nothing(stores: list[ImageStore], message: str) -> None:
    with pytest.raises(NoStoreError, match=message):
        choose_store(stores, 0.9)


def test_the_threshold_is_the_zones() -> None:
    assert choose_store([store(1, 940)], 0.95).id == 1
    with pytest.raises(StoresFullError, match="more than 50% full"):
        choose_store([store(1, 600)], 0.5)
