# SPDX-License-Identifier: Apache-2.0
"""Chooses the store for new content: the least full (CloudStack's firstfitleastconsumed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates.fullness import Fullness
from systemvm.service.errors import FailureCode, SystemVmError


class StoreSettings(Protocol):
    """What holds for all stores of a zone, read at the time of each choice."""

    def secondary_storage(self, zone_name: str, address: str | None = None) -> SecondaryStorageConfig:
        """Return the settings of a zone, or those of its SSVM with this public address."""
        ...


class NoStoreError(SystemVmError):
    """A zone without a store for new templates."""

    code = FailureCode.NO_STORE


class StoresFullError(NoStoreError):
    """All stores that take content, `stores`, are full as far as known."""

    def __init__(self, stores: list[ImageStore], threshold: float) -> None:
        super().__init__(
            f"All image stores of the zone are more than {threshold:.0%} full",
            "delete templates, or add a store with addImageStore",
        )
        self.stores = stores


def choose_store(
    stores: Sequence[ImageStore],
    threshold: float,
    expected_bytes: Mapping[int, int] | None = None,
    size_bytes: int = 0,
) -> ImageStore:
    """Return the store that is least full with what is on its way to it, `expected_bytes` by store.

    `size_bytes` of new content must fit below the threshold, too.

    Raises: NoStoreError when none of `stores` takes it.
    """
    if not stores:
        raise NoStoreError("The zone has no image store", "add one with addImageStore or in the zone's file")
    writable = [store for store in stores if not store.read_only]
    if not writable:
        raise NoStoreError(
            "All image stores of the zone are read-only", "make one writable with updateImageStore"
        )
    taking = [store for store in writable if store.takes_content]
    if not taking:
        raise NoStoreError(
            "All writable image stores of the zone are being retired", "add a store with addImageStore"
        )
    fullness = Fullness(taking, expected_bytes)
    roomy = [store for store in taking if fullness.has_room(store, threshold, size_bytes)]
    if not roomy:
        raise StoresFullError(taking, threshold)
    return min(roomy, key=lambda store: (fullness.ratio(store), store.id))
