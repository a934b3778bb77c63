# SPDX-License-Identifier: Apache-2.0
"""The QEMU driver with machines whose guests are boot sectors of a few bytes."""

from __future__ import annotations

import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.base import Disk, DomainSpec, ExitReason
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.service.rfb_handshake import vnc_auth_response
from systemvm.service.slowness import scaled_s

#: 16-bit code for q35: events of a guest that the driver must notice.
POWER_OFF = bytes.fromhex("ba0406 b80020 ef f4 ebfd")  # out 0x604, 0x2000: S5
RESET = bytes.fromhex("b0fe e664 f4 ebfd")  # the keyboard controller's reset line
IDLE = bytes.fromhex("f4 ebfd")
INTERRUPTS_OFF = bytes.fromhex("fa f4 ebfd")  # halts: no power button reaches it
#: enable the power button, write a dot to the serial port, wait for the button, power off
HANDLES_BUTTON = bytes.fromhex("ba0206 b80001 ef b02e baf803 ee ba0006 ed f6c401 74fa") + POWER_OFF
#: 320 by 200 pixels, all of them white
WHITE = bytes.fromhex("b81300 cd10 b800a0 8ec0 31ff b900fa b00f f3aa") + IDLE


class NoTaps:
    """A network driver that refuses: these guests have no network."""

    async def create_tap(self, name: str, bridge: str, *, isolated: bool, vlan: int | None = None) -> int:
        raise AssertionError("a tap was requested")

    async def remove_tap(self, name: str) -> None:
        raise AssertionError("there is no tap")


def boot_sector(path: Path, code: bytes) -> Disk:
    # SeaBIOS boots no disk of less than one cylinder
    path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(2 << 20))
    return Disk(path, "raw")


def machine(tmp_path: Path, code: bytes = IDLE, **changes: Any) -> DomainSpec:
    spec = DomainSpec(
        name="i-2-3-VM",
        uuid=str(uuid.uuid4()),
        memory_mib=32,
        vcpus=1,
        nics=[],
        serial_log=tmp_path / "log" / "serial.log",
        disk=boot_sector(tmp_path / "disk.raw", code),
    )
    return evolve(spec, **changes)


class Exits:
    """Reported exits of machines, which a test can wait for."""

    def __init__(self, hypervisor: QemuHypervisor) -> None:
        self.seen: list[tuple[str, ExitReason]] = []
        self._waiting: list[Deferred[tuple[str, ExitReason]]] = []
        hypervisor.on_exit(self._on_exit)

    def _on_exit(self, name: str, reason: ExitReason) -> None:
        self.seen.append((name, reason))
        for waiting in self._waiting:
            waiting.callback((name, reason))
        self._waiting.clear()

    async def next(self) -> tuple[str, ExitReason]:
        if not self.seen:
            waiting: Deferred[tuple[str, ExitReason]] = Deferred()
            self._waiting.append(waiting)
            await waiting.addTimeout(scaled_s(60.0), reactor)
        return self.seen.pop(0)


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    return tmp_path / "a-path-that-is-too-long-for-a-unix-socket" / ("x" * 60) / "qmp"


@pytest_twisted.async_yield_fixture
async def hypervisor(run_directory: Path) -> AsyncIterator[QemuHypervisor]:
    driver = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    yield driver
    await driver.stop("i-2-3-VM", forced=True)
    await driver.close()


def files(run_directory: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in run_directory.glob(pattern))


def rfb_accepts(port: int, password: str | None) -> bool:
    """Return whether a VNC server accepts a password; None offers no authentication."""
    with socket.create_connection(("127.0.0.1", port), 120) as connection:
        connection.settimeout(120)
        stream = connection.makefile("rwb", buffering=0)
        assert stream.read(12) == b"RFB 003.008\n"
        stream.write(b"RFB 003.008\n")
        [count] = stream.read(1) or b"\0"
        offered = stream.read(count)
        assert offered == b"\x02", "only VNC authentication is offered"
        if password is None:
            stream.write(b"\x01")
            return stream.read(4) == bytes(4)
        stream.write(b"\x02")
        challenge = stream.read(16)
        assert challenge
        stream.write(vnc_auth_response(challenge, password))
        return stream.read(4) == bytes(4)
