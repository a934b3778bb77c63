# SPDX-License-Identifier: Apache-2.0
"""Screens and keyboards of VMs: pictures, words, typing, keys, and waiting for a picture or a text.

CloudStack has no such commands; they follow its conventions.
"""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta
from typing import Any

from systemvm.management.api.answers.screens import (
    ScreenAnswer,
    ScreenTextAnswer,
    ThumbnailAnswer,
    TypedAnswer,
)
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import Arguments, Parameter, ParameterType, optional, required
from systemvm.management.consoles.endpoint import ConsoleUser
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.screens.keymap import LAYOUTS
from systemvm.management.screens.picture import Region
from systemvm.management.screens.service import (
    DEFAULT_WAIT,
    MAX_WAIT,
    Screen,
    Screens,
    ScreenText,
    WantedPicture,
    WantedText,
)
from systemvm.management.screens.thumbnails import Thumbnails
from systemvm.management.state.columns import now

_HASH = re.compile("[0-9a-f]{64}")
_MACHINE = required("virtualmachineid", ParameterType.UUID, "the virtual machine")
_TIMEOUT = optional("timeout", ParameterType.INTEGER, "seconds until the job fails; 300 by default")
_REGION = ("x", "y", "width", "height")
_RELATED = ("listVirtualMachines", "createConsoleEndpoint")


def _region_parameters(what: str) -> tuple[Parameter, ...]:
    text = f"a region {what}, in pixels; all four or none"
    return tuple(optional(name, ParameterType.INTEGER, text) for name in _REGION)


class ScreenCommands:
    """Handlers of these commands."""

    def __init__(self, screens: Screens, thumbnails: Thumbnails, jobs: JobRunner) -> None:
        self._screens = screens
        self._thumbnails = thumbnails
        self._jobs = jobs
        jobs.register("waitForConsoleImage", self._run_wait, resumes=True)
        jobs.register("waitForConsoleText", self._run_wait_for_text, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "createConsoleScreenshot",
                self._take,
                "Returns the screen of a running VM as a picture.",
                ScreenAnswer,
                "consolescreenshot",
                parameters=(_MACHINE, *_region_parameters("whose hash is returned; by default the whole")),
                related=_RELATED,
            ),
            Command(
                "createConsoleThumbnail",
                self._thumbnail,
                "Returns a small picture of the screen of a running VM, a few seconds old at most.",
                ThumbnailAnswer,
                "consolethumbnail",
                parameters=(
                    _MACHINE,
                    optional(
                        "hash", ParameterType.STRING, "of the last answer: the same picture is not returned"
                    ),
                ),
                related=_RELATED,
            ),
            Command(
                "typeConsoleText",
                self._type,
                "Types a text on the keyboard of a running VM. A line feed is Enter.",
                TypedAnswer,
                "consoletext",
                parameters=(
                    _MACHINE,
                    required(
                        "text", ParameterType.LINES, "the text, at most 2,000 characters; send it by POST"
                    ),
                    optional(
                        "keyboard",
                        ParameterType.STRING,
                        "the keyboard layout that the guest has; by default the VM's, else us",
                        choices=tuple(LAYOUTS),
                    ),
                ),
                related=_RELATED,
            ),
            Command(
                "sendConsoleKeys",
                self._press,
                "Presses keys of a running VM.",
                TypedAnswer,
                "consolekeys",
                parameters=(
                    _MACHINE,
                    required(
                        "keys",
                        ParameterType.STRING,
                        "keys by name, together with +, one after another with spaces: ctrl+alt+f2 enter",
                    ),
                ),
                related=_RELATED,
            ),
            Command(
                "waitForConsoleImage",
                self._wait,
                "Waits until a region of a VM's screen has a hash, or no longer has it.",
                ScreenAnswer,
                "consolescreenshot",
                ResponseShape.ASYNC,
                (
                    _MACHINE,
                    required("hash", ParameterType.STRING, "the hash that createConsoleScreenshot returned"),
                    optional("changed", ParameterType.BOOLEAN, "wait until the region has another hash"),
                    _TIMEOUT,
                    *_region_parameters("that is compared; the one of the hash"),
                ),
                related=_RELATED,
            ),
            Command(
                "readConsoleText",
                self._read,
                "Returns what is written on the screen of a running VM, in Latin letters.",
                ScreenTextAnswer,
                "consolescreentext",
                parameters=(_MACHINE, *_region_parameters("that is read; by default the whole")),
                related=_RELATED,
            ),
            Command(
                "waitForConsoleText",
                self._wait_for_text,
                "Waits until a text can be read on a VM's screen.",
                ScreenTextAnswer,
                "consolescreentext",
                ResponseShape.ASYNC,
                (
                    _MACHINE,
                    required(
                        "text",
                        ParameterType.STRING,
                        "the text; case, blanks and letters that look alike make no difference",
                    ),
                    _TIMEOUT,
                    *_region_parameters("that is read; by default the whole"),
                ),
                related=_RELATED,
            ),
        )

    async def _take(self, call: ApiCall) -> ScreenAnswer:
        region = _region_of(call.arguments)
        screen = await self._screens.take(call.arguments["virtualmachineid"], _user_of(call), region)
        return _answer(screen)

    async def _thumbnail(self, call: ApiCall) -> ThumbnailAnswer:
        uuid = call.arguments["virtualmachineid"]
        thumbnail = await self._thumbnails.of(uuid, _user_of(call))
        is_known = call.arguments.text("hash") == thumbnail.hash
        return ThumbnailAnswer(
            virtualmachineid=uuid,
            width=thumbnail.width,
            height=thumbnail.height,
            hash=thumbnail.hash,
            image=None if is_known else base64.b64encode(thumbnail.png).decode("ascii"),
        )

    async def _type(self, call: ApiCall) -> TypedAnswer:
        arguments = call.arguments
        layout = arguments.text("keyboard")
        vm = await self._screens.type(
            arguments["virtualmachineid"], _user_of(call), arguments["text"], layout
        )
        return TypedAnswer(virtualmachineid=vm.uuid, success=True)

    async def _press(self, call: ApiCall) -> TypedAnswer:
        arguments = call.arguments
        vm = await self._screens.press(arguments["virtualmachineid"], _user_of(call), arguments["keys"])
        return TypedAnswer(virtualmachineid=vm.uuid, success=True)

    async def _wait(self, call: ApiCall) -> StartedJob:
        arguments = call.arguments
        digest, region = str(arguments["hash"]).lower(), _region_of(arguments)
        if not _HASH.fullmatch(digest):
            raise parameter_error(
                "hash",
                "parameter hash is not a SHA-256 of 64 hexadecimal digits",
                "send the hash of a screenshot",
            )
        deadline = _deadline_of(arguments)
        vm = await self._screens.find(arguments["virtualmachineid"], _user_of(call))
        wanted = {
            "id": vm.id,
            "hash": digest,
            "changed": arguments.flag("changed"),
            "region": _region_values(region),
            "deadline": deadline,
        }
        return await start_job(
            self._jobs, call, "waitForConsoleImage", wanted, about="VirtualMachine", uuid=vm.uuid
        )

    async def _run_wait(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        region = _region_from(arguments["region"])
        deadline = datetime.fromisoformat(arguments["deadline"])
        wanted = WantedPicture(arguments["hash"], arguments["changed"], region, deadline)
        screen = await self._screens.wait(arguments["id"], wanted)
        # without the picture: a job's result stays in the database
        return {"consolescreenshot": dict(plain(_answer(screen, has_image=False)))}

    async def _read(self, call: ApiCall) -> ScreenTextAnswer:
        region = _region_of(call.arguments)
        return _text_answer(
            await self._screens.read(call.arguments["virtualmachineid"], _user_of(call), region)
        )

    async def _wait_for_text(self, call: ApiCall) -> StartedJob:
        arguments = call.arguments
        region, deadline = _region_of(arguments), _deadline_of(arguments)
        vm = await self._screens.find_to_read(arguments["virtualmachineid"], _user_of(call))
        wanted = {
            "id": vm.id,
            "text": arguments["text"],
            "region": _region_values(region),
            "deadline": deadline,
        }
        return await start_job(
            self._jobs, call, "waitForConsoleText", wanted, about="VirtualMachine", uuid=vm.uuid
        )

    async def _run_wait_for_text(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        deadline = datetime.fromisoformat(arguments["deadline"])
        wanted = WantedText(arguments["text"], _region_from(arguments["region"]), deadline)
        found = await self._screens.wait_for_text(arguments["id"], wanted)
        return {"consolescreentext": dict(plain(_text_answer(found)))}


def _user_of(call: ApiCall) -> ConsoleUser:
    principal = call.principal
    return ConsoleUser(
        principal.user.id,
        principal.account.id,
        principal.is_admin,
        call.client_address,
        call.request_id,
        beneath=principal.beneath,
    )


def _region_of(arguments: Arguments) -> Region | None:
    given = [name for name in _REGION if name in arguments]
    if not given:
        return None
    if len(given) < len(_REGION):
        missing = [name for name in _REGION if name not in arguments]
        raise parameter_error(
            missing[0],
            f"parameters of the region are missing: {', '.join(missing)}",
            "send x, y, width and height, or none",
        )
    return Region(*(arguments[name] for name in _REGION))


def _region_values(region: Region | None) -> list[int] | None:
    """Return a region as a job's argument."""
    return None if region is None else [region.x, region.y, region.width, region.height]


def _region_from(values: list[int] | None) -> Region | None:
    return None if values is None else Region(*values)


def _deadline_of(arguments: Arguments) -> str:
    """Return when a wait ends, as a job's argument."""
    wait_s, max_s = arguments.get("timeout", DEFAULT_WAIT.total_seconds()), MAX_WAIT.total_seconds()
    if not 0 < wait_s <= max_s:
        raise parameter_error("timeout", f"parameter timeout must be from 1 to {int(max_s)} seconds")
    return (now() + timedelta(seconds=wait_s)).isoformat()


def _text_answer(found: ScreenText) -> ScreenTextAnswer:
    return ScreenTextAnswer(virtualmachineid=found.screen.vm.uuid, text=found.text, hash=found.screen.hash)


def _answer(screen: Screen, *, has_image: bool = True) -> ScreenAnswer:
    picture = screen.picture
    return ScreenAnswer(
        virtualmachineid=screen.vm.uuid,
        width=picture.width,
        height=picture.height,
        hash=screen.hash,
        image=base64.b64encode(picture.png()).decode("ascii") if has_image else None,
    )
