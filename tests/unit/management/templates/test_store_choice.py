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
