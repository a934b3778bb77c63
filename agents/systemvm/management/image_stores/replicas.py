# SPDX-License-Identifier: Apache-2.0
"""Keeps as many copies of each Ready template in a zone as its policy wants.

Driven by state: each pass compares rows with the policy, so a store that was added or is retired later, a
changed policy and a failed copy need no code of their own. Copies beyond the policy stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.image_stores.placement import place_for
from systemvm.management.state import replicas, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import StoreRef
from systemvm.management.state.zones import ImageStore, Zone
from systemvm.management.templates import downloads
from systemvm.management.templates.store_choice import NoStoreError, StoreSettings
from systemvm.service.periodic import Periodic

PASS_INTERVAL_S = 60.0
#: The most copies that one pass of a zone orders.
MAX_ORDERS = 64
#: A failed copy is ordered again after this time.
RETRY_AFTER = timedelta(minutes=10)


class ReplicaKeeper:
    """Orders copies by adding their rows; `wake()` has the dispatcher assign them."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, database: Database, settings: StoreSettings, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._settings = settings
        self._wake = wake
        self._passes = Periodic(clock, self.run_pass, PASS_INTERVAL_S, what="keep copies of templates")

    def start(self) -> None:
        self._passes.start(now=True)

    def stop(self) -> None:
        self._passes.stop()

    def changed(self) -> None:
        """Run a pass now: a store or a template has changed."""
        self._passes.run_soon()

    async def run_pass(self) -> None:
        """Compare every zone with its policy once."""
        ordered = 0
        for zone in await self._database.read(zones.list_zones):
            ordered += await self._database.run(keep_zone, zone, self._settings)
        if ordered:
            self._log.info("ordered {count} copies of templates", count=ordered)
            self._wake()


def keep_zone(connection: Connection, zone: Zone, settings: StoreSettings) -> int:
    """Order what a zone lacks; return how many copies that are."""
    stores = zones.list_image_stores(connection, zone.id)
    storage = settings.secondary_storage(zone.name)
    taking = [store for store in stores if store.takes_content]
    moved = _replace(connection, zone, stores, storage.capacity_threshold)
    wanted = len(taking) if storage.replicas == "all" else min(storage.replicas, len(stores))
    is_retiring = any(store.retiring is not None for store in stores)
    if not taking or (wanted <= 1 and not is_retiring):
        return moved
    ordered = moved + _retry(connection, zone)
    for template_id in replicas.lacking(connection, zone.id, max(1, wanted), MAX_ORDERS):
        copies = replicas.copies_in_zone(connection, template_id, zone.id)
        if order_copy(connection, template_id, copies, taking, storage.capacity_threshold):
            ordered += 1
    return ordered


def order_copy(
    connection: Connection,
    template_id: int,
    copies: Collection[StoreRef],
    stores: Collection[ImageStore],
    threshold: float,
) -> StoreRef | None:
    """Add a copy on the best of `stores` that has none; None when none of them takes it."""
    size_bytes = max((ref.physical_size_bytes or 0 for ref in copies), default=0)
    free = [store for store in stores if store.id not in {ref.store_id for ref in copies}]
    try:
        store = place_for(connection, free, threshold, size_bytes)
    except NoStoreError:
        return None
    return templates.add_store_ref(connection, template_id, store.id, None)


def _replace(connection: Connection, zone: Zone, stores: list[ImageStore], threshold: float) -> int:
    """Give downloads for stores that take nothing any more another store, or a reason why they wait."""
    if all(store.takes_content for store in stores):
        return 0
    moved = 0
    for ref in replicas.misplaced(connection, zone.id):
        copies = replicas.copies_in_zone(connection, ref.template_id, zone.id)
        others = {copy.store_id for copy in copies if copy.id != ref.id}
        free = [store for store in stores if store.id not in others]
        try:
            store = place_for(connection, free, threshold, 0)
        except NoStoreError as error:
            if any(copy.is_ready for copy in copies):
                templates.update_store_ref(connection, ref.id, removed=now())  # nobody waits for it
            else:
                downloads.note_waiting(connection, [ref.id], "no_store", f"{error.message}: {error.hint}.")
            continue
        moved += replicas.move(connection, ref.id, store.id)
    return moved


def _retry(connection: Connection, zone: Zone) -> int:
    failed = replicas.failed_copies(connection, zone.id, now() - RETRY_AFTER)
    for ref in failed:
        downloads.begin_anew(connection, ref.id)
    return len(failed)
