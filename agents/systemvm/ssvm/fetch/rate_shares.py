# SPDX-License-Identifier: Apache-2.0
"""Divides the rate that all downloads may have among their movers, and keeps each below its own.

Sans-IO. One that cannot use its share, as its source is slow, leaves the rest to the others.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

#: A mover that used this much of its share could use more.
_HUNGRY = 0.8
#: How much more than it used one is given that used less.
_ROOM = 1.5
#: No share is smaller: a mover that receives nothing would count as stalled.
MIN_SHARE_BYTES_PER_S = 8 * 1024
#: How often the shares follow what was used.
INTERVAL_S = 2.0

#: Is called with the new limit of a mover; None is no limit.
Apply = Callable[[int | None], None]


@define
class _Member:
    own: int | None
    apply: Apply
    share: int | None = None
    received_bytes: int = 0
    counted_bytes: int = 0
    wants: float = float("inf")


class RateShares:
    """The movers that receive now, by job id; `total` is that of the newest request."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._members: dict[str, _Member] = {}

    @property
    def is_shared(self) -> bool:
        """Whether `rebalance` has something to do."""
        return self._total is not None and len(self._members) > 1

    def set_total(self, bytes_per_s: int | None) -> None:
        if bytes_per_s != self._total:
            self._total = bytes_per_s
            self._divide()

    def join(self, job_id: str, own: int | None, apply: Apply) -> int | None:
        """Return the limit that a mover begins with; `apply` gets later ones."""
        member = self._members[job_id] = _Member(own, lambda limit: None)
        self._divide()
        member.apply = apply
        return member.share

    def set_own(self, job_id: str, own: int | None) -> None:
        member = self._members.get(job_id)
        if member is not None and member.own != own:
            member.own = own
            self._divide()

    def leave(self, job_id: str) -> None:
        """Give a share back; repeating it has no effect."""
        if self._members.pop(job_id, None) is not None:
            self._divide()

    def note(self, job_id: str, received_bytes: int) -> None:
        """Note how much of its file a job has received."""
        member = self._members.get(job_id)
        if member is not None:
            member.received_bytes = received_bytes

    def rebalance(self, elapsed_s: float) -> None:
        """Let the shares follow what was received in the last `elapsed_s`."""
        for member in self._members.values():
            used = max(0, member.received_bytes - member.counted_bytes) / max(elapsed_s, 1e-3)
            member.counted_bytes = member.received_bytes
            is_hungry = member.share is None or used >= _HUNGRY * member.share
            member.wants = float("inf") if is_hungry else max(MIN_SHARE_BYTES_PER_S, _ROOM * used)
        self._divide()

    def _divide(self) -> None:
        left = float("inf") if self._total is None else float(self._total)
        # who wants least first: what it leaves is divided among the others
        ordered = sorted(self._members.values(), key=_most)
        for place, member in enumerate(ordered):
            share = min(_most(member), left / (len(ordered) - place))
            left -= share
            limit = None if share == float("inf") else max(MIN_SHARE_BYTES_PER_S, int(share))
            if limit != member.share:
                member.share = limit
                member.apply(limit)


def _most(member: _Member) -> float:
    return min(member.wants, float("inf") if member.own is None else member.own)
