# SPDX-License-Identifier: Apache-2.0
"""The screen commands: who may use a screen, what is pressed, what is recorded, and waiting for a picture."""

from __future__ import annotations

import base64
import io
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from PIL import Image

from settling import settled
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.api.failures import as_api_error
from systemvm.management.screens.keymap import SHIFT
from systemvm.management.screens.picture import Region
from systemvm.management.screens.recognition import RecognitionError
from systemvm.management.screens.service import (
    LOOK_EVERY_S,
    MachineScreens,
    ScreenWaitError,
    WantedPicture,
    WantedText,
)
from systemvm.management.state import events, instances
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.service.errors import SystemVmError
from unit.management.screens.running_vm import running_vm

BLACK, WHITE = (b"P6\n4 3\n255\n" + colour * 36 for colour in (b"\0", b"\xff"))


@pytest.fixture
def vm(cloud: SmallCloud) -> Instance:
    """Return a running VM of the user."""
    return running_vm(cloud, BLACK)


async def call(cloud: SmallCloud, command: str, vm: Instance, **more: Any) -> Any:
    return await cloud.call(command, cloud.user, virtualmachineid=vm.uuid, **more)


@pytest_twisted.ensureDeferred
async def test_a_screenshot_has_the_picture_and_the_hash_of_a_region(cloud: SmallCloud, vm: Instance) -> None:
    whole = (await call(cloud, "createConsoleScreenshot", vm))["consolescreenshot"]
    image = Image.open(io.BytesIO(base64.b64decode(whole["image"])))
    assert image.size == (whole["width"], whole["height"]) == (4, 3)
    part = (await call(cloud, "createConsoleScreenshot", vm, x=0, y=0, width=2, height=2))[
        "consolescreenshot"
    ]
    assert part["hash"] != whole["hash"]


@pytest_twisted.ensureDeferred
async def test_text_is_typed_by_layout_and_its_event_does_not_contain_it(
    cloud: SmallCloud, vm: Instance
) -> None:
    await call(cloud, "typeConsoleText", vm, text="Zq\n", keyboard="de")
    assert cloud.hypervisor.pressed == [(vm.instance_name, [(SHIFT, 0x15), (0x10,), (0x1C,)])]
    recorded = cloud.database.run_now(events.newest, 100)
    [event] = [event for event in recorded if event.type == "VM.CONSOLE.TYPE"]
    assert event.description == "3 characters were typed on one, from 192.0.2.1"
    assert event.user_id == cloud.user.user.id
    assert event.resource_uuid == vm.uuid


@pytest_twisted.ensureDeferred
async def test_text_is_typed_by_the_keyboard_of_the_vm(cloud: SmallCloud, vm: Instance) -> None:
    cloud.update_instance(vm, keyboard="de")
    await call(cloud, "typeConsoleText", vm, text="z")
    assert cloud.hypervisor.pressed == [(vm.instance_name, [(0x15,)])]


@pytest_twisted.ensureDeferred
async def test_blanks_around_a_text_are_typed(cloud: SmallCloud, vm: Instance) -> None:
    await call(cloud, "typeConsoleText", vm, text=" a ")
    assert cloud.hypervisor.pressed == [(vm.instance_name, [(0x39,), (0x1E,), (0x39,)])]


@pytest_twisted.ensureDeferred
async def test_keys_are_pressed(cloud: SmallCloud, vm: Instance) -> None:
    await call(cloud, "sendConsoleKeys", vm, keys="ctrl+alt+delete")
    assert cloud.hypervisor.pressed == [(vm.instance_name, [(0x1D, 0x38, 0xD3)])]


@pytest.mark.parametrize(
    ("command", "more", "code", "text"),
    [
        ("typeConsoleText", {"text": "語"}, ErrorCode.PARAMETER, "U+8A9E"),
        ("typeConsoleText", {"text": "a" * 2001}, ErrorCode.PARAMETER, "at most 2000"),
        ("typeConsoleText", {"text": "a", "keyboard": "xx"}, ErrorCode.PARAMETER, "keyboard"),
        ("sendConsoleKeys", {"keys": "hyper"}, ErrorCode.PARAMETER, "'hyper'"),
        ("sendConsoleKeys", {"keys": "a " * 201}, ErrorCode.PARAMETER, "at most 200"),
        ("createConsoleScreenshot", {"x": 0, "y": 0}, ErrorCode.PARAMETER, "width, height"),
        ("createConsoleScreenshot", {"x": 0, "y": 0, "width": 5, "height": 1}, ErrorCode.PARAMETER, "4x3"),
        ("waitForConsoleImage", {"hash": "no"}, ErrorCode.PARAMETER, "hash"),
        ("waitForConsoleImage", {"hash": "0" * 64, "timeout": 0}, ErrorCode.PARAMETER, "timeout"),
        ("waitForConsoleImage", {"hash": "0" * 64, "timeout": 7201}, ErrorCode.PARAMETER, "timeout"),
        ("waitForConsoleText", {"text": "a", "timeout": 7201}, ErrorCode.PARAMETER, "timeout"),
        ("waitForConsoleText", {"text": "a", "x": 1}, ErrorCode.PARAMETER, "height"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_done_is_named(
    cloud: SmallCloud, vm: Instance, command: str, more: dict[str, Any], code: ErrorCode, text: str
) -> None:
    with pytest.raises(SystemVmError) as caught:
        await call(cloud, command, vm, **more)
    assert as_api_error(caught.value, "").code is code
    assert text in caught.value.message
    assert cloud.hypervisor.pressed == []


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("createConsoleScreenshot", {}),
        ("typeConsoleText", {"text": "a"}),
        ("sendConsoleKeys", {"keys": "a"}),
        ("waitForConsoleImage", {"hash": "0" * 64}),
        ("readConsoleText", {}),
        ("waitForConsoleText", {"text": "a"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_machine_of_others_is_not_there(
    cloud: SmallCloud, vm: Instance, command: str, more: dict[str, Any]
) -> None:
    stranger = cloud.cpvm  # a system VM is the administrator's
    with pytest.raises(SystemVmError, match="there is no VM with id"):
        await call(cloud, command, stranger, **more)
    assert cloud.hypervisor.pressed == []


@pytest.mark.parametrize("state", [InstanceState.STOPPED, InstanceState.STARTING, InstanceState.DESTROYED])
@pytest_twisted.ensureDeferred
async def test_a_machine_that_does_not_run_has_no_screen(
    cloud: SmallCloud, vm: Instance, state: InstanceState
) -> None:
    cloud.database.run_now(instances.rows.update, vm.id, state=state)
    with pytest.raises(SystemVmError, match=state.value):
        await call(cloud, "createConsoleScreenshot", vm)


@pytest_twisted.ensureDeferred
async def test_a_machine_of_another_host_has_no_screen_here(cloud: SmallCloud, vm: Instance) -> None:
    del cloud.hypervisor.statuses[vm.instance_name]
    with pytest.raises(SystemVmError, match="does not run on this host"):
        await call(cloud, "typeConsoleText", vm, text="a")


@pytest_twisted.ensureDeferred
async def test_a_job_waits_for_a_picture(cloud: SmallCloud, vm: Instance) -> None:
    before = (await call(cloud, "createConsoleScreenshot", vm))["consolescreenshot"]["hash"]
    started = await call(cloud, "waitForConsoleImage", vm, hash=before, changed="true")
    await settled(cloud.database)
    assert (await cloud.call("queryAsyncJobResult", cloud.user, jobid=started["jobid"]))["jobstatus"] == 0
    cloud.hypervisor.screen = WHITE
    cloud.clock.advance(LOOK_EVERY_S)
    await settled(cloud.database)
    ended = await cloud.call("queryAsyncJobResult", cloud.user, jobid=started["jobid"])
    assert ended["jobstatus"] == 1
    result = ended["jobresult"]["consolescreenshot"]
    assert result["hash"] != before
    assert "image" not in result


@pytest_twisted.ensureDeferred
async def test_the_text_of_a_region_is_read(cloud: SmallCloud, vm: Instance) -> None:
    cloud.recognizer.texts[bytes(3)] = "login:"
    answer = await call(cloud, "readConsoleText", vm, x=0, y=0, width=1, height=1)
    assert answer["consolescreentext"]["text"] == "login:"


@pytest_twisted.ensureDeferred
async def test_a_job_waits_for_a_text_and_reads_only_what_has_changed(
    cloud: SmallCloud, vm: Instance
) -> None:
    started = await call(cloud, "waitForConsoleText", vm, text="Login:")
    await settled(cloud.database)
    cloud.clock.advance(LOOK_EVERY_S)
    await settled(cloud.database)
    assert cloud.recognizer.readings == 1
    cloud.hypervisor.screen = WHITE
    cloud.recognizer.texts[b"\xff" * 36] = "host login: _"
    cloud.clock.advance(LOOK_EVERY_S)
    await settled(cloud.database)
    ended = await cloud.call("queryAsyncJobResult", cloud.user, jobid=started["jobid"])
    assert ended["jobresult"]["consolescreentext"]["text"] == "host login: _"
    assert cloud.recognizer.readings == 2


@pytest_twisted.ensureDeferred
async def test_a_text_that_does_not_come_is_an_error_with_what_is_read(
    cloud: SmallCloud, vm: Instance
) -> None:
    cloud.recognizer.texts[bytes(36)] = "x" * 300 + "grub>"
    wanted = WantedText("login:", None, now() + timedelta(seconds=-1))
    with pytest.raises(ScreenWaitError, match=r"it shows '…x{195}grub>'"):
        await screens_of(cloud).wait_for_text(vm.id, wanted)


@pytest_twisted.ensureDeferred
async def test_a_host_that_cannot_read_says_so_before_a_job_begins(cloud: SmallCloud, vm: Instance) -> None:
    cloud.recognizer.is_installed = False
    for command, more in (("readConsoleText", {}), ("waitForConsoleText", {"text": "a"})):
        with pytest.raises(RecognitionError):
            await call(cloud, command, vm, **more)


def screens_of(cloud: SmallCloud) -> MachineScreens:
    hypervisor: Any = cloud.hypervisor
    return MachineScreens(cloud.clock, cloud.database, hypervisor, cloud.recognizer)


@pytest_twisted.ensureDeferred
async def test_a_picture_that_does_not_come_is_an_error_with_what_is_there(
    cloud: SmallCloud, vm: Instance
) -> None:
    wanted = WantedPicture("0" * 64, False, Region(0, 0, 1, 1), now() + timedelta(seconds=-1))
    with pytest.raises(ScreenWaitError, match="does not show the picture: the region has hash"):
        await screens_of(cloud).wait(vm.id, wanted)


@pytest_twisted.ensureDeferred
async def test_a_wait_ends_with_its_machine(cloud: SmallCloud, vm: Instance) -> None:
    started = await call(cloud, "waitForConsoleImage", vm, hash="0" * 64)
    await settled(cloud.database)
    cloud.database.run_now(instances.rows.update, vm.id, state=InstanceState.STOPPED)
    cloud.clock.advance(LOOK_EVERY_S)
    await settled(cloud.database)
    ended = await cloud.call("queryAsyncJobResult", cloud.user, jobid=started["jobid"])
    assert ended["jobstatus"] == 2
    assert "it is Stopped" in ended["jobresult"]["errortext"]
