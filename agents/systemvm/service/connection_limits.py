# SPDX-License-Identifier: Apache-2.0
"""Bounds the connections of a listener that have no session yet, fairly by source.

A listener that stops accepting at a fixed number is closed by whoever opens that many connections and says
nothing. Here a new connection is always let in: when there is no room, the source that holds most of it loses
one, the oldest whose handshake is not done, else the one that has been idle for longest. Connections with an
owner (a console session, a known agent) have room of their own and are bounded by owner.

Sans-IO: nothing here knows a socket or a clock; `evict` callbacks close what must go.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from attrs import define, field, frozen

_IPV6_SOURCE_BITS = 64  # a customer's smallest usual assignment (RFC 6177): its addresses are one source


def source_of_address(address: str) -> str:
    """The source that an address counts for: IPv4 by itself, IPv6 by its /64; any other text by itself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _IPV6_SOURCE_BITS), strict=False))


class _Phase(enum.Enum):
    UNSETTLED = "unsettled"  # its handshake is not done
    IDLE = "idle"  # it could begin something, and has not
    OWNED = "owned"
    RELEASED = "released"


@frozen
class Bounds:
    """How many connections a listener holds.

    `pending` and `pending_of_source` bound those without an owner, `of_owner` those of one owner.
    """

    pending: int
    pending_of_source: int
    of_owner: int


@define(eq=False)
class Slot:
    """The place of one connection; every method may be called in any phase, and again."""

    source: str
    _limits: ConnectionLimits
    _evict: Callable[[], None]
    _phase: _Phase = field(default=_Phase.UNSETTLED, init=False)
    _owner: str = field(default="", init=False)

    def complete_handshake(self) -> None:
        """The handshake is done."""
        if self._phase is _Phase.UNSETTLED:
            self._limits._move(self, _Phase.IDLE)

    def touch(self) -> None:
        """The other end said something: of idle connections it is now the last to go."""
        if self._phase is _Phase.IDLE:
            self._limits._move(self, _Phase.IDLE)

    def own(self, owner: str) -> None:
        """It has a session or is a known agent's: it takes no room from those that have none yet."""
        if self._phase in (_Phase.UNSETTLED, _Phase.IDLE):
            self._owner = owner
            self._limits._move(self, _Phase.OWNED)

    def release(self) -> None:
        """The connection is gone."""
        self._limits._move(self, _Phase.RELEASED)


_Queue = OrderedDict[Slot, None]  # the first one in goes first


class ConnectionLimits:
    """All slots of one listener."""

    def __init__(self, bounds: Bounds, is_shared: Callable[[str], bool] = lambda source: False) -> None:
        """`is_shared` tells sources behind which many clients are, a proxy's: only `pending` bounds those."""
        self._bounds = bounds
        self._is_shared = is_shared
        self._pending: dict[str, dict[_Phase, _Queue]] = {}
        self._pending_count = 0
        self._owned: dict[str, _Queue] = {}

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
        """Make room, and let a connection in; `evict` must close it, and may do so later."""
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
        """Into the queue of a phase, after whoever must go for it."""
        slot._phase = phase
        if phase is _Phase.OWNED:
            siblings = self._owned.setdefault(slot._owner, OrderedDict())
            siblings[slot] = None
            if len(siblings) > self._bounds.of_owner:
                self._evict(next(iter(siblings)))
            return
        of_source = self.pending_of(slot.source)
        if of_source >= self._bounds.pending_of_source and not self._is_shared(slot.source):
            self._evict(self._first_to_go(slot.source))
        elif self._pending_count >= self._bounds.pending:
            heaviest = max(self._pending, key=self.pending_of)
            self._evict(
                self._first_to_go(slot.source if of_source >= self.pending_of(heaviest) else heaviest)
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

    def _first_to_go(self, source: str) -> Slot:
        queues = self._pending[source]
        return next(iter(queues[_Phase.UNSETTLED] or queues[_Phase.IDLE]))

    def _evict(self, slot: Slot) -> None:
        slot.release()
        slot._evict()
