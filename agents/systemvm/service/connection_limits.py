# SPDX-License-Identifier: Apache-2.0
"""Limits the connections of a listener that have no session yet, fairly by source.

A listener that stops accepting at a fixed number can be blocked by anyone who opens that many connections and
sends nothing. Here a new connection is always admitted: when there is no room, the source with the most
connections loses one: the oldest without a complete handshake, otherwise the one that was idle longest.
Connections with an owner (a console session, a known agent) do not count there and are limited by owner.

Sans-IO: no socket and no clock; `evict` callbacks close connections.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from attrs import define, field, frozen

_IPV6_SOURCE_BITS = 64  # the smallest usual assignment to a customer (RFC 6177): its addresses are one source


@lru_cache(maxsize=1024)
def source_of_address(address: str) -> str:
    """Return the source of an address: IPv4 itself, IPv6 its /64, any other text itself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _IPV6_SOURCE_BITS), strict=False))


def _nothing() -> None:
    """Stand for the callback of a connection that is closed."""


class _Phase(enum.Enum):
    UNSETTLED = "unsettled"  # its handshake is not complete
    IDLE = "idle"  # its handshake is complete, and it has no owner
    OWNED = "owned"
    RELEASED = "released"


@frozen
class Bounds:
    """How many connections a listener holds.

    `pending` and `pending_of_source` limit those without an owner, `of_owner` those of one owner.
    """

    pending: int
    pending_of_source: int
    of_owner: int


@define(eq=False)
class Slot:
    """The place of one connection; every method can be called in any phase, and repeatedly."""

    source: str
    _limits: ConnectionLimits
    _evict: Callable[[], None]
    _phase: _Phase = field(default=_Phase.UNSETTLED, init=False)
    _owner: str = field(default="", init=False)

    def complete_handshake(self) -> None:
        """Record that the handshake is complete."""
        if self._phase is _Phase.UNSETTLED:
            self._limits._move(self, _Phase.IDLE)

    def touch(self) -> None:
        """Record that data was received: of the idle connections it is now the last to be evicted."""
        if self._phase is _Phase.IDLE:
            self._limits._move(self, _Phase.IDLE)

    def own(self, owner: str) -> None:
        """Assign an owner (a session, a known agent): the connection takes no room of those without one."""
        if self._phase in (_Phase.UNSETTLED, _Phase.IDLE):
            self._owner = owner
            self._limits._move(self, _Phase.OWNED)

    def release(self) -> None:
        """Free the place of a closed connection."""
        self._limits._move(self, _Phase.RELEASED)
        self._evict = _nothing  # so that the connection is freed at once, not by the garbage collector


_Queue = OrderedDict[Slot, None]  # the oldest first


class ConnectionLimits:
    """All slots of one listener."""

    def __init__(self, bounds: Bounds, is_shared: Callable[[str], bool] = lambda source: False) -> None:
        """`is_shared` is true for a source with many clients behind it, a proxy: only `pending` limits it."""
        self._bounds = bounds
        self._is_shared = is_shared
        self._pending: dict[str, dict[_Phase, _Queue]] = {}
        self._pending_count = 0
        self._owned: dict[str, dict[Slot, None]] = {}  # the oldest first; mostly one, and a dict is smaller

    @property
    def pending(self) -> int:
        """Connections without an owner."""
        return self._pending_count

    @property
    def owned(self) -> int:
        return sum(map(len, self._owned.values()))

    def pending_of(self, source: str) -> int:
        return sum(map(len, self._pending.get(source, {}).values()))

    def admit(self, source: str, evict: Callable[[], None]) -> Slot:
        """Make room and admit a connection; `evict` must close it, but can do so later."""
        slot = Slot(source, self, evict)
        self._enter(slot, _Phase.UNSETTLED)
        return slot

    def _move(self, slot: Slot, phase: _Phase) -> None:
        if slot._phase is _Phase.RELEASED:
            return
        self._leave(slot)
        if phase is _Phase.RELEASED:
            slot._phase = phase
        else:
            self._enter(slot, phase)

    def _enter(self, slot: Slot, phase: _Phase) -> None:
        """Add a slot to the queue of a phase, after evicting another where there is no room."""
        slot._phase = phase
        if phase is _Phase.OWNED:
            siblings = self._owned.setdefault(slot._owner, {})
            siblings[slot] = None
            if len(siblings) > self._bounds.of_owner:
                self._evict(next(iter(siblings)))
            return
        of_source = self.pending_of(slot.source)
        if of_source >= self._bounds.pending_of_source and not self._is_shared(slot.source):
            self._evict(self._next_to_evict(slot.source))
        elif self._pending_count >= self._bounds.pending:
            heaviest = max(self._pending, key=self.pending_of)
            self._evict(
                self._next_to_evict(slot.source if of_source >= self.pending_of(heaviest) else heaviest)
            )
        queues = self._pending.setdefault(
            slot.source, {_Phase.UNSETTLED: OrderedDict(), _Phase.IDLE: OrderedDict()}
        )
        queues[phase][slot] = None
        self._pending_count += 1

    def _leave(self, slot: Slot) -> None:
        if slot._phase is _Phase.OWNED:
            siblings = self._owned[slot._owner]
            del siblings[slot]
            if not siblings:
                del self._owned[slot._owner]
            return
        queues = self._pending[slot.source]
        del queues[slot._phase][slot]
        self._pending_count -= 1
        if not any(queues.values()):
            del self._pending[slot.source]

    def _next_to_evict(self, source: str) -> Slot:
        queues = self._pending[source]
        return next(iter(queues[_Phase.UNSETTLED] or queues[_Phase.IDLE]))

    def _evict(self, slot: Slot) -> None:
        evict = slot._evict
        slot.release()
        evict()
