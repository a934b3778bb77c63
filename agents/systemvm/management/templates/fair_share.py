# SPDX-License-Identifier: Apache-2.0
"""Distributes the free slots of SSVMs: to the account with the fewest downloads, then to the oldest task."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Protocol

from systemvm.management.state.pending_work import DownloadTask, PendingTasks
from systemvm.management.templates import downloads
from systemvm.wire.storage import MAX_ACTIVE_DOWNLOADS, MAX_DOWNLOADS


class CallPolicy(Protocol):
    """Whether an SSVM can be called now, and can use a store, by its id."""

    def can_call(self, name: str) -> bool: ...
    def can_use(self, name: str, store_id: int) -> bool: ...


class FairShare:
    """The slots of one pass; each that is taken counts at once."""

    def __init__(self, found: PendingTasks, up: set[str], policy: CallPolicy) -> None:
        self.up = up
        self._ssvms = {zone_id: [n for n in names if n in up] for zone_id, names in found.ssvms.items()}
        self._known = {name for names in found.ssvms.values() for name in names}
        self._policy = policy
        #: Uploads have places of their own: most of them wait for their users.
        downloading = [task for task in found.given if task.ref.upload_id is None]
        self._has = Counter(task.ref.agent_name for task in downloading)
        #: Of these, the ones whose store does not answer or that let smaller ones go first: other downloads
        #: get their slots.
        self._waits = Counter(
            task.ref.agent_name for task in downloading if downloads.needs_no_slot(task.ref)
        )
        self._account_has = Counter(
            task.template.account_id for task in downloading if task.ref.agent_name in up
        )

    def exists(self, name: str) -> bool:
        """Return whether an SSVM is not destroyed, Up or not."""
        return name in self._known

    def up_in(self, zone_id: int) -> list[str]:
        """Return the names of the zone's SSVMs that are Up."""
        return self._ssvms.get(zone_id, [])

    def free_slots_of(self, name: str) -> int:
        if not self._policy.can_call(name):
            return 0
        active = self._has[name] - self._waits[name]
        return max(0, min(MAX_ACTIVE_DOWNLOADS - active, MAX_DOWNLOADS - self._has[name]))

    def free_slots_in(self, zone_id: int) -> int:
        return sum(map(self.free_slots_of, self.up_in(zone_id)))

    def slot_for(self, task: DownloadTask) -> str | None:
        """Take a slot of the least loaded SSVM that can use the task's store; None when there is no slot."""
        fit = [
            name
            for name in self.up_in(task.zone.id)
            if self.free_slots_of(name) and self._policy.can_use(name, task.store.id)
        ]
        if not fit:
            return None
        name = min(fit, key=lambda name: (self._has[name], name))
        self._has[name] += 1
        self._account_has[task.template.account_id] += 1
        return name

    def ssvm_for_deletion(self, task: DownloadTask, *, for_first_time: bool = False) -> str | None:
        """Return the SSVM that has the task already, else any: a deletion takes no slot."""
        fit = [
            name
            for name in self.up_in(task.zone.id)
            if for_first_time or self._policy.can_use(name, task.store.id)
        ]
        return min(fit, key=lambda name: (name != task.ref.agent_name, self._has[name], name), default=None)

    def distribute(self, queue: list[DownloadTask]) -> Iterator[tuple[DownloadTask, str]]:
        """Yield tasks and their SSVMs, by turns of the accounts and within an account in order of arrival."""
        queues: dict[int, deque[DownloadTask]] = {}
        for task in sorted(queue, key=lambda task: task.ref.id):
            queues.setdefault(task.template.account_id, deque()).append(task)
        turns = [(self._account_has[account], tasks[0].ref.id, account) for account, tasks in queues.items()]
        heapify(turns)
        while turns:
            _, _, account = heappop(turns)
            task = queues[account].popleft()
            name = self.slot_for(task)
            if name is not None:
                yield task, name
            if queues[account]:
                heappush(turns, (self._account_has[account], queues[account][0].ref.id, account))
