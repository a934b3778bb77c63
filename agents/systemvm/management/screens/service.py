# SPDX-License-Identifier: Apache-2.0
"""Screens and keyboards of VMs for programs that install machines unattended: see, type, press, wait.

The hypervisor is asked directly, so no console proxy is involved and no guest agent is needed. Who may open a
VM's console may do all of it. Typed text can be a password: neither logs nor events nor rows contain it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from systemvm.management.consoles.endpoint import ConsoleUnavailableError, ConsoleUser, find_openable
from systemvm.management.hypervisors.base import DomainStatus, Hypervisor
from systemvm.management.screens import key_names, keymap, recognition
from systemvm.management.screens.keymap import DEFAULT_LAYOUT, Chord, KeyboardError
from systemvm.management.screens.picture import Picture, Region
from systemvm.management.screens.recognition import Recognizer
from systemvm.management.state import events, instances
from systemvm.management.state.columns import now
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.service.errors import FailureCode, SystemVmError

#: A minute of typing; longer texts are sent in parts.
MAX_TEXT_CHARACTERS = 2000
MAX_CHORDS = 200
#: Between two looks at a screen that is waited for: a picture of QEMU's costs some milliseconds.
LOOK_EVERY_S = 1.0
DEFAULT_WAIT = timedelta(minutes=5)
MAX_WAIT = timedelta(hours=2)
#: How much of a screen's text an error quotes: its end, where a console writes.
_QUOTED_CHARACTERS = 200


class ScreenError(SystemVmError):
    """A screen that cannot be used: the VM does not run here, or its user may not."""

    code = FailureCode.WRONG_STATE


class ScreenWaitError(SystemVmError):
    """A picture that did not come in time."""

    code = FailureCode.UNAVAILABLE


@frozen
class Screen:
    """A VM's screen at one moment; `hash` is that of the region, or of the whole."""

    vm: Instance
    picture: Picture
    hash: str


@frozen
class ScreenText:
    """What is written on a screen."""

    screen: Screen
    text: str


@frozen
class WantedPicture:
    """What a screen is waited for: a region with this hash, or with any other when `is_changed`."""

    hash: str
    is_changed: bool
    region: Region | None
    deadline: datetime

    def is_shown(self, current_hash: str) -> bool:
        return (current_hash == self.hash) is not self.is_changed


@frozen
class WantedText:
    """What a screen is waited for: a region on which a text can be read."""

    text: str
    region: Region | None
    deadline: datetime


class Screens(Protocol):
    """What the commands need."""

    async def take(self, vm_uuid: str, user: ConsoleUser, region: Region | None) -> Screen: ...

    async def type(self, vm_uuid: str, user: ConsoleUser, text: str, layout: str | None) -> Instance: ...

    async def press(self, vm_uuid: str, user: ConsoleUser, keys: str) -> Instance: ...

    async def find(self, vm_uuid: str, user: ConsoleUser) -> Instance: ...

    async def wait(self, vm_id: int, wanted: WantedPicture) -> Screen: ...

    async def read(self, vm_uuid: str, user: ConsoleUser, region: Region | None) -> ScreenText: ...

    async def find_to_read(self, vm_uuid: str, user: ConsoleUser) -> Instance: ...

    async def wait_for_text(self, vm_id: int, wanted: WantedText) -> ScreenText: ...

    async def picture(self, vm: Instance) -> Picture: ...


class MachineScreens:
    """The screens of this host's machines."""

    def __init__(
        self, clock: IReactorTime, database: Database, hypervisor: Hypervisor, recognizer: Recognizer
    ) -> None:
        self._clock = clock
        self._database = database
        self._hypervisor = hypervisor
        self._recognizer = recognizer

    async def take(self, vm_uuid: str, user: ConsoleUser, region: Region | None) -> Screen:
        """Return the screen as it is now.

        Raises: ScreenError, PictureError when the region is not on it, HypervisorError.
        """
        return await self._look(await self.find(vm_uuid, user), region)

    async def type(self, vm_uuid: str, user: ConsoleUser, text: str, layout: str | None) -> Instance:
        """Type a text as on a keyboard of this layout, by default the VM's; a line feed is Enter.

        Raises: ScreenError, KeyboardError when the layout lacks a character, HypervisorError.
        """
        vm = await self.find(vm_uuid, user)
        if len(text) > MAX_TEXT_CHARACTERS:
            raise KeyboardError(
                f"text is too long: {len(text)} characters, at most {MAX_TEXT_CHARACTERS} are typed at once",
                "send it in parts",
                parameter="text",
            )
        await self._press(vm, keymap.load(layout or vm.keyboard or DEFAULT_LAYOUT).type(text))
        await self._record(
            vm, user, "VM.CONSOLE.TYPE", f"{len(text)} characters were typed on {vm.shown_name}"
        )
        return vm

    async def press(self, vm_uuid: str, user: ConsoleUser, keys: str) -> Instance:
        """Press keys by their names, see key_names.parse_chords.

        Raises: ScreenError, KeyboardError when a key is not known, HypervisorError.
        """
        vm = await self.find(vm_uuid, user)
        chords = key_names.parse_chords(keys)
        if len(chords) > MAX_CHORDS:
            raise KeyboardError(
                f"too many keys: {len(chords)}, at most {MAX_CHORDS} can be pressed at once",
                "send them in parts",
                parameter="keys",
            )
        await self._press(vm, chords)
        await self._record(vm, user, "VM.CONSOLE.KEYS", f"{len(chords)} keys were pressed on {vm.shown_name}")
        return vm

    async def wait(self, vm_id: int, wanted: WantedPicture) -> Screen:
        """Return the screen that shows what is wanted, as soon as it does.

        Raises: ScreenWaitError at the deadline, ScreenError when the VM ends.
        """
        while True:
            screen = await self._look(await self._database.read(instances.by_id, vm_id), wanted.region)
            if wanted.is_shown(screen.hash):
                return screen
            if now() >= wanted.deadline:
                what = "has not changed" if wanted.is_changed else f"has hash {screen.hash}"
                raise ScreenWaitError(
                    f"screen of {screen.vm.shown_name} does not show the picture: the region {what}",
                    "look at a screenshot: the guest can be slower than expected, or stopped at a question",
                )
            await deferLater(self._clock, LOOK_EVERY_S)

    async def read(self, vm_uuid: str, user: ConsoleUser, region: Region | None) -> ScreenText:
        """Return what is written on the screen now.

        Raises: RecognitionError, and as `take`.
        """
        return await self._read(await self.take(vm_uuid, user, region), region)

    async def find_to_read(self, vm_uuid: str, user: ConsoleUser) -> Instance:
        """Return a VM whose screen the user may use, and that can be read here.

        Raises: RecognitionError, ScreenError.
        """
        self._recognizer.require()
        return await self.find(vm_uuid, user)

    async def wait_for_text(self, vm_id: int, wanted: WantedText) -> ScreenText:
        """Return the screen on which a text can be read, as soon as it can; only changed screens are read.

        Raises: ScreenWaitError at the deadline, ScreenError when the VM ends, RecognitionError.
        """
        found: ScreenText | None = None
        while True:
            screen = await self._look(await self._database.read(instances.by_id, vm_id), wanted.region)
            if found is None or screen.hash != found.screen.hash:
                found = await self._read(screen, wanted.region)
                if recognition.is_shown(wanted.text, found.text):
                    return found
            if now() >= wanted.deadline:
                read = _shortened(found.text)
                raise ScreenWaitError(
                    f"screen of {screen.vm.shown_name} does not show the text: it shows {read!r}",
                    "look at a screenshot: the guest can be slower than expected, or stopped at a question",
                )
            await deferLater(self._clock, LOOK_EVERY_S)

    async def picture(self, vm: Instance) -> Picture:
        """Return the screen of a VM that `find` returned; raises as `take`."""
        self._require_running(vm)
        return Picture.parse(await self._hypervisor.screenshot(vm.instance_name))

    async def find(self, vm_uuid: str, user: ConsoleUser) -> Instance:
        """Return a VM whose screen the user may use.

        Raises: ScreenError.
        """
        try:
            return await self._database.read(find_openable, vm_uuid, user)
        except ConsoleUnavailableError:
            # the same answer: whether an id exists is no stranger's business
            raise ScreenError(
                f"there is no VM with id {vm_uuid}", "see listVirtualMachines", parameter="virtualmachineid"
            ) from None

    async def _look(self, vm: Instance, region: Region | None) -> Screen:
        picture = await self.picture(vm)
        return Screen(vm, picture, picture.hash(region))

    async def _read(self, screen: Screen, region: Region | None) -> ScreenText:
        picture = screen.picture if region is None else screen.picture.cut(region)
        return ScreenText(screen, await self._recognizer.read(picture))

    async def _press(self, vm: Instance, chords: list[Chord]) -> None:
        self._require_running(vm)
        await self._hypervisor.press(vm.instance_name, chords)

    def _require_running(self, vm: Instance) -> None:
        if not vm.is_driven:
            raise ScreenError(
                f"{vm.shown_name} runs on a {vm.hypervisor} host, whose screens only consoles show",
                "open its console",
                parameter="virtualmachineid",
            )
        status: DomainStatus | None = self._hypervisor.status(vm.instance_name)
        if vm.state is not InstanceState.RUNNING:
            raise ScreenError(
                f"{vm.shown_name} has no screen: it is {vm.state.value}",
                "start it",
                parameter="virtualmachineid",
            )
        if status is None or not status.state.alive:
            raise ScreenError(
                f"{vm.shown_name} does not run on this host",
                "ask the management daemon of the host that it runs on",
                parameter="virtualmachineid",
            )

    async def _record(self, vm: Instance, user: ConsoleUser, kind: str, text: str) -> None:
        await self._database.run(
            events.record,
            kind,
            f"{text}, from {user.address}",
            account_id=vm.account_id,
            domain_id=vm.domain_id,
            user_id=user.user_id,
            zone_id=vm.zone_id,
            resource_type="VirtualMachine",
            resource_uuid=vm.uuid,
            request_id=user.request_id,
        )


def _shortened(text: str) -> str:
    return text if len(text) <= _QUOTED_CHARACTERS else f"…{text[-_QUOTED_CHARACTERS:]}"
