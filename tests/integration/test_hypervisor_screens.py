# SPDX-License-Identifier: Apache-2.0
"""Screens of real QEMU machines: VNC passwords, ports and screenshots."""

from __future__ import annotations

import asyncio
import io
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from PIL import Image
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from integration.qemu_lab import (
    WHITE,
    files,
    hypervisor,
    machine,
    rfb_accepts,
    run_directory,
)
from rpc_wait import until
from systemvm.management.hypervisors.base import VncSpec
from systemvm.management.hypervisors.errors import DomainNotFoundError
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.screens import keymap
from systemvm.management.screens.picture import Picture
from systemvm.management.screens.recognition import Tesseract, is_shown

pytestmark = pytest.mark.timeout(120)

__all__ = ["hypervisor", "run_directory"]  # fixtures


@pytest_twisted.ensureDeferred
async def test_a_screen_needs_its_password(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    status = await hypervisor.start(machine(tmp_path, vnc=VncSpec("127.0.0.1", 0, "goodpass")))
    port = status.vnc_port
    assert port and 5900 <= port <= 6100
    assert await deferToThread(rfb_accepts, port, "goodpass")
    assert not await deferToThread(rfb_accepts, port, "badpass!")
    assert not await deferToThread(rfb_accepts, port, "")
    assert not await deferToThread(rfb_accepts, port, None)
    await hypervisor.set_vnc_password("i-2-3-VM", "newpass!")
    assert not await deferToThread(rfb_accepts, port, "goodpass")
    assert await deferToThread(rfb_accepts, port, "newpass!")


@pytest_twisted.ensureDeferred
async def test_the_channel_of_spices_agent_waits_for_the_guest(
    hypervisor: QemuHypervisor, tmp_path: Path
) -> None:
    await hypervisor.start(machine(tmp_path, vnc=VncSpec("127.0.0.1", 0, "goodpass")))

    async def channels_of_qemu() -> Any:
        session = await hypervisor._running("i-2-3-VM").session()
        return await session.execute("query-chardev")

    channels = await Deferred.fromFuture(asyncio.ensure_future(channels_of_qemu()))
    [agent] = [channel for channel in channels if channel["label"] == "vdagent"]
    assert agent["frontend-open"] is False, "nothing in the guest has opened it"


@pytest_twisted.ensureDeferred
async def test_a_vnc_port_that_was_taken_meanwhile_is_skipped(
    hypervisor: QemuHypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from systemvm.management.hypervisors import qemu, qemu_program

    real = qemu_program.free_vnc_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        answers = iter([busy])
        monkeypatch.setattr(qemu, "free_vnc_port", lambda vnc, ports: next(answers, None) or real(vnc, ports))
        status = await hypervisor.start(machine(tmp_path, vnc=VncSpec("127.0.0.1", 0, "x")))
    assert status.vnc_port and status.vnc_port != busy


@pytest_twisted.ensureDeferred
async def test_a_screenshot_shows_what_the_guest_drew(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    await hypervisor.start(machine(tmp_path, WHITE, vnc=VncSpec("127.0.0.1", 0, "x")))
    while True:  # until it turned white; the test's own time limit ends it
        image = Image.open(io.BytesIO(await hypervisor.screenshot("i-2-3-VM")))
        white = sum(image.convert("L").histogram()[250:])
        if white > 0.95 * image.width * image.height:
            break
        await deferLater(reactor, 0.5, lambda: None)
    assert image.format == "PPM"
    assert files(run_directory, "*.ppm") == []


#: Writes text to the screen by the BIOS, int 10h: all characters from `message` to a zero.
WRITER = bytes.fromhex("be167c ac 84c0 7408 b40e 31db cd10 ebf3 f4 ebfd 000000")
MESSAGE = b"\r\nDebian GNU/Linux 13 host1 tty1\r\n\r\nhost1 login: \0"


@pytest_twisted.ensureDeferred
async def test_words_that_the_guest_writes_are_read(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    await hypervisor.start(machine(tmp_path, WRITER + MESSAGE, vnc=VncSpec("127.0.0.1", 0, "x")))
    tesseract, text = Tesseract(), ""
    while True:  # the test's own time limit ends it
        text = await tesseract.read(Picture.parse(await hypervisor.screenshot("i-2-3-VM")))
        if is_shown("host1 login:", text):
            break
        await deferLater(reactor, 1, lambda: None)
    assert is_shown("Debian GNU/Linux 13 host1 tty1", text)
    assert not is_shown("Password:", text)


#: Writes ">" and then each character from the keyboard to the serial port, by the BIOS: int 14h, int 16h.
TYPEWRITER = bytes.fromhex("b83e01 31d2 cd14") + bytes.fromhex("31c0 cd16 b401 31d2 cd14 ebf4")


@pytest_twisted.ensureDeferred
async def test_a_text_is_typed_whole_and_in_order(hypervisor: QemuHypervisor, tmp_path: Path) -> None:
    text = "Pack my box with five dozen liquor jugs: 0123456789 (~!@#$%^&*)\r" * 4
    spec = machine(tmp_path, TYPEWRITER)
    await hypervisor.start(spec)
    await until(lambda: spec.serial_log.exists() and b">" in spec.serial_log.read_bytes())
    await hypervisor.press("i-2-3-VM", keymap.load("us").type(text))
    await until(lambda: spec.serial_log.read_bytes().count(b"\r") == text.count("\r"))
    assert spec.serial_log.read_bytes().partition(b">")[2].decode() == text


@pytest_twisted.ensureDeferred
async def test_commands_to_a_machine_that_does_not_run(hypervisor: QemuHypervisor) -> None:
    for command in (
        hypervisor.screenshot("no"),
        hypervisor.reset("no"),
        hypervisor.press("no", [(0x1C,)]),
        hypervisor.set_vnc_password("no", "x"),
    ):
        with pytest.raises(DomainNotFoundError, match="no does not run"):
            await command
