# SPDX-License-Identifier: Apache-2.0
"""Who gets an SSVM's free places: the account that has the fewest, then who came first."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Protocol

from systemvm.management.state.pending_work import Due, Work
from systemvm.management.templates import downloads
from systemvm.wire.storage import MAX_ACTIVE_DOWNLOADS, MAX_DOWNLOADS


class Permission(Protocol):
    """Whether an SSVM may be asked for anything now, and for work on a store, by its number."""

    def can_call(self, name: str) -> bool: ...
    def can_use(self, name: str, store_id: int) -> bool: ...


class FairShare:
    """The places of one pass; each that is given away is counted at once."""

    def __init__(self, found: Due, up: set[str], permission: Permission) -> None:
        self.up = up
        self._ssvms = {zone_id: [n for n in names if n in up] for zone_id, names in found.ssvms.items()}
        self._permission = permission
        self._has = Counter(work.ref.agent_name for work in found.given)
        #: Of these, those whose store does not answer: the others have their places.
        self._waits = Counter(
            work.ref.agent_name for work in found.given if downloads.waits_for_store(work.ref)
        )
        self._account_has = Counter(
            work.template.account_id for work in found.given if work.ref.agent_name in up
        )

    def up_in(self, zone_id: int) -> list[str]:
        """The zone's SSVMs that are Up."""
        return self._ssvms.get(zone_id, [])

    def places_of(self, name: str) -> int:
        if not self._permission.can_call(name):
            return 0
        active = self._has[name] - self._waits[name]
        return max(0, min(MAX_ACTIVE_DOWNLOADS - active, MAX_DOWNLOADS - self._has[name]))

    def places_in(self, zone_id: int) -> int:
        return sum(map(self.places_of, self.up_in(zone_id)))

    def place_for(self, work: Work) -> str | None:
        """Take a place at the SSVM that has the least to do and may work on its store; None: no place."""
        fit = [
            name
            for name in self.up_in(work.zone.id)
            if self.places_of(name) and self._permission.can_use(name, work.store.id)
        ]
        if not fit:
            return None
        name = min(fit, key=lambda name: (self._has[name], name))
        self._has[name] += 1
        self._account_has[work.template.account_id] += 1
        return name

    def for_deletion(self, work: Work, *, for_first_time: bool = False) -> str | None:
        """The SSVM that has it already, else any: removing files takes no place."""
        fit = [
            name
            for name in self.up_in(work.zone.id)
            if for_first_time or self._permission.can_use(name, work.store.id)
        ]
        return min(fit, key=lambda name: (name != work.ref.agent_name, self._has[name], name), default=None)

    def share_out(self, queue: list[Work]) -> Iterator[tuple[Work, str]]:
        """Go round the accounts until all of `queue`, which is in the order of coming, was looked at."""
        queues: dict[int, deque[Work]] = {}
        for work in sorted(queue, key=lambda work: work.ref.id):
            queues.setdefault(work.template.account_id, deque()).append(work)
        turns = [(self._account_has[account], works[0].ref.id, account) for account, works in queues.items()]
        heapify(turns)
        while turns:
            _, _, account = heappop(turns)
            work = queues[account].popleft()
            name = self.place_for(work)
            if name is not None:
                yield work, name
            if queues[account]:
                heappush(turns, (self._account_has[account], queues[account][0].ref.id, account))
