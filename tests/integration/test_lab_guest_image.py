# SPDX-License-Identifier: Apache-2.0
"""The tiny guest boots by BIOS from a linked clone, shows its screen, and reacts to keys and power button."""

from __future__ import annotations

import io
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from PIL import Image
from twisted.internet import reactor
from twisted.internet.task import deferLater

from systemvm.host.accelerator import Accelerator
from systemvm.lab import guest_image
from systemvm.management.hypervisors.base import Disk, DomainSpec, ExitReason, VncSpec
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.primary.qemu_img import QemuImg
from systemvm.management.screens import keymap
from systemvm.service.slowness import scaled_s

TOP = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.image,
    pytest.mark.skipif(
        not (TOP / "build/images/ssvm.vmlinuz").exists(), reason="needs built images: `make images`"
    ),
]

BLUE, GREEN = (0, 0, 168), (0, 168, 0)  # as VGA's text mode has them


class NoTaps:
    """A network driver that refuses: the guest has no network."""

    async def create_tap(self, name: str, bridge: str, *, isolated: bool, vlan: int | None = None) -> int:
        raise AssertionError("a tap was requested")

    async def remove_tap(self, name: str) -> None:
        raise AssertionError("there is no tap")


@pytest_twisted.async_yield_fixture
async def hypervisor(tmp_path: Path) -> AsyncIterator[QemuHypervisor]:
    driver = QemuHypervisor(tmp_path / "qemu", NoTaps(), Accelerator.TCG)
    yield driver
    await driver.stop("tiny", forced=True)
    await driver.close()


async def screen_turns(hypervisor: QemuHypervisor, colour: tuple[int, int, int], timeout_s: float) -> None:
    """Wait until most of the guest's screen is of a colour."""
    deadline = reactor.seconds() + scaled_s(timeout_s)
    while reactor.seconds() < deadline:
        image = Image.open(io.BytesIO(await hypervisor.screenshot("tiny"))).convert("RGB")
        counts = {value: count for count, value in image.getcolors(1 << 16) or []}
        if counts.get(colour, 0) > 0.7 * image.width * image.height:
            return
        await deferLater(reactor, 0.5, lambda: None)
    raise AssertionError(f"the screen did not turn {colour}")


@pytest_twisted.ensureDeferred
async def test_it_boots_shows_its_screen_accepts_keys_and_powers_off(
    hypervisor: QemuHypervisor, tmp_path: Path
) -> None:
    image = guest_image.build(TOP / "build")
    assert image.stat().st_size < 40 << 20
    clone = tmp_path / "clone.qcow2"
    await QemuImg().create_clone(clone, image, "qcow2", None)
    exits: list[tuple[str, ExitReason]] = []
    hypervisor.on_exit(lambda name, reason: exits.append((name, reason)))
    await hypervisor.start(
        DomainSpec(
            name="tiny",
            uuid=str(uuid.uuid4()),
            memory_mib=128,
            vcpus=1,
            nics=[],
            serial_log=tmp_path / "serial.log",
            disk=Disk(clone),
            vnc=VncSpec("127.0.0.1", 0, "x"),
        )
    )
    await screen_turns(hypervisor, BLUE, 90)
    await hypervisor.press("tiny", keymap.load("us").type("screen green\n"))
    await screen_turns(hypervisor, GREEN, 30)
    await hypervisor.stop(
        "tiny", timeout_s=200
    )  # it turns the guest off afterwards, and then there is no text
    assert "Power down" in (tmp_path / "serial.log").read_text(errors="replace")
    assert exits == [("tiny", ExitReason.STOPPED)]


def test_an_unchanged_image_is_not_built_again() -> None:
    first = guest_image.build(TOP / "build").stat().st_mtime_ns
    assert guest_image.build(TOP / "build").stat().st_mtime_ns == first
