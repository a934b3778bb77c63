# SPDX-License-Identifier: Apache-2.0
"""Small pictures of VMs' screens for the page, at a price that does not depend on how many look.

A VM is asked for its screen at most every SHOWN_S, however many users and pages ask, and PICTURES_AT_ONCE VMs
at once. The picture is made smaller in a thread: the daemon's reactor must not wait for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from attrs import field, frozen
from twisted.internet.defer import DeferredSemaphore, ensureDeferred
from twisted.internet.interfaces import IReactorTime

from systemvm.management.consoles.endpoint import ConsoleUser
from systemvm.management.screens.picture import Picture
from systemvm.management.screens.service import Screens
from systemvm.management.state.instances import Instance
from systemvm.service.single_flight import SingleFlight

MAX_WIDTH_PX = 320
SHOWN_S = 4.0
FORGOTTEN_S = 60.0
PICTURES_AT_ONCE = 2

#: Runs a function in a thread.
InThread = Callable[[Callable[[], "Thumbnail"]], Awaitable["Thumbnail"]]


@frozen
class Thumbnail:
    """A PNG of at most MAX_WIDTH_PX; `hash` is of the PNG."""

    width: int
    height: int
    hash: str
    png: bytes = field(repr=False)

    @classmethod
    def of(cls, picture: Picture) -> Thumbnail:
        while picture.width > MAX_WIDTH_PX and picture.height > 1:
            picture = picture.halved()
        png = picture.png()
        return cls(picture.width, picture.height, hashlib.sha256(png).hexdigest(), png)


class Thumbnails:
    """The thumbnails of this host's VMs, each as old as SHOWN_S at most."""

    def __init__(self, clock: IReactorTime, screens: Screens, in_thread: InThread) -> None:
        self._clock = clock
        self._screens = screens
        self._in_thread = in_thread
        self._made: dict[int, tuple[float, Thumbnail]] = {}
        self._making: SingleFlight[int] = SingleFlight()
        self._places = DeferredSemaphore(PICTURES_AT_ONCE)

    async def of(self, vm_uuid: str, user: ConsoleUser) -> Thumbnail:
        """Return the thumbnail of a VM whose screen the user may use.

        Raises: ScreenError, HypervisorError.
        """
        vm = await self._screens.find(vm_uuid, user)
        made_s, thumbnail = self._made.get(vm.id, (0.0, None))
        if thumbnail is not None and self._clock.seconds() - made_s < SHOWN_S:
            return thumbnail
        made: Thumbnail = await self._making.run(vm.id, lambda: self._make(vm))
        return made

    async def _make(self, vm: Instance) -> Thumbnail:
        made: Thumbnail = await self._places.run(lambda: ensureDeferred(self._taken(vm)))
        now_s = self._clock.seconds()
        self._made = {vm_id: each for vm_id, each in self._made.items() if now_s - each[0] < FORGOTTEN_S} | {
            vm.id: (now_s, made)
        }
        return made

    async def _taken(self, vm: Instance) -> Thumbnail:
        picture = await self._screens.picture(vm)
        return await self._in_thread(lambda: Thumbnail.of(picture))
