# SPDX-License-Identifier: Apache-2.0
"""Thumbnails: small, checked for each caller, and taken at most every few seconds."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import pytest_twisted
from PIL import Image
from twisted.internet.defer import Deferred, gatherResults

from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.api.failures import as_api_error
from systemvm.management.screens.picture import Picture
from systemvm.management.screens.thumbnails import MAX_WIDTH_PX, SHOWN_S, Thumbnail
from systemvm.management.state import instances
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.service.errors import SystemVmError
from unit.management.screens.running_vm import running_vm


@pytest.fixture
def vm(cloud: SmallCloud) -> Instance:
    """Return a running VM of the user, whose screen is white."""
    return running_vm(cloud, b"P6\n640 400\n255\n" + b"\xff" * 640 * 400 * 3)


async def thumbnail(cloud: SmallCloud, vm: Instance, **more: Any) -> Any:
    answer = await cloud.call("createConsoleThumbnail", cloud.user, virtualmachineid=vm.uuid, **more)
    return answer["consolethumbnail"]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (5, 4), (64, 3), (640, 480)])
def test_half_a_picture_is_the_mean_of_its_pixels(width: int, height: int) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    half = Picture(width, height, pixels.tobytes()).halved()
    assert (half.width, half.height) == (width // 2, height // 2)
    even = pixels[: height // 2 * 2, : width // 2 * 2].astype(int)
    rows = (even[::2] + even[1::2]) // 2
    expected = (rows[:, ::2] + rows[:, 1::2]) // 2
    assert half.pixels == expected.astype(np.uint8).tobytes()


@pytest.mark.parametrize("size", [(1, 1), (320, 200), (321, 1), (1920, 1080), (4096, 2160)])
def test_a_thumbnail_is_small(size: tuple[int, int]) -> None:
    made = Thumbnail.of(Picture(*size, bytes(size[0] * size[1] * 3)))
    image = Image.open(io.BytesIO(made.png))
    assert image.size == (made.width, made.height)
    assert made.width <= MAX_WIDTH_PX or made.height == 1


@pytest_twisted.ensureDeferred
async def test_an_unchanged_picture_is_not_sent_again(cloud: SmallCloud, vm: Instance) -> None:
    first = await thumbnail(cloud, vm)
    image = Image.open(io.BytesIO(base64.b64decode(first["image"])))
    assert image.size == (320, 200) == (first["width"], first["height"])
    again = await thumbnail(cloud, vm, hash=first["hash"])
    assert (again["hash"], "image" in again) == (first["hash"], False)
    cloud.hypervisor.screen = b"P6\n640 400\n255\n" + bytes(640 * 400 * 3)
    cloud.clock.advance(SHOWN_S)
    changed = await thumbnail(cloud, vm, hash=first["hash"])
    assert changed["hash"] != first["hash"]
    assert changed["image"]


@pytest_twisted.ensureDeferred
async def test_a_machine_is_asked_for_its_screen_at_most_every_few_seconds(
    cloud: SmallCloud, vm: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answers: list[Deferred[bytes]] = []

    async def screenshot(name: str) -> bytes:
        asked.append(name)
        answers.append(Deferred())
        return await answers[-1]

    monkeypatch.setattr(cloud.hypervisor, "screenshot", screenshot)
    calls = [Deferred.fromCoroutine(thumbnail(cloud, vm)) for _ in range(5)]
    while not answers:
        await cloud.database.read(instances.by_id, vm.id)
    answers[0].callback(cloud.hypervisor.screen)
    hashes = {each["hash"] for each in await gatherResults(calls)}
    assert len(hashes) == 1
    cloud.clock.advance(SHOWN_S - 0.1)
    await thumbnail(cloud, vm)
    assert asked == [vm.instance_name]


@pytest_twisted.ensureDeferred
async def test_only_who_may_open_the_console_sees_a_thumbnail(cloud: SmallCloud, vm: Instance) -> None:
    assert await cloud.call("createConsoleThumbnail", cloud.admin, virtualmachineid=vm.uuid)
    cloud.database.run_now(instances.update, vm.id, account_id=cloud.admin.account.id)
    with pytest.raises(SystemVmError) as refused:  # although there is one that is fresh
        await thumbnail(cloud, vm)
    assert as_api_error(refused.value, "r").code == ErrorCode.PARAMETER
    cloud.database.run_now(instances.update, vm.id, account_id=cloud.user.account.id)
    cloud.clock.advance(SHOWN_S)
    cloud.update_instance(vm, state=InstanceState.STOPPED)
    with pytest.raises(SystemVmError, match="has no screen"):
        await thumbnail(cloud, vm)
