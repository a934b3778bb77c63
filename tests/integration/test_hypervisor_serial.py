# SPDX-License-Identifier: Apache-2.0
"""Serial ports of the driver's machines, as CPVMs reach them: who is admitted, the log, and an echo."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater

from integration.qemu_lab import NoTaps, files, machine, run_directory
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.serial_port import SerialPort
from systemvm.cpvm.serial_ports import SerialPorts
from systemvm.host.accelerator import Accelerator
from systemvm.management.consoles.serial_ports import MachineSerialPorts
from systemvm.management.hypervisors.base import DomainSpec, DomainStatus, VncSpec
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.screens import ScreenAuthority
from systemvm.management.state.instances import Instance
from systemvm.wire.console import ConsoleScrollback, ConsoleTarget

pytestmark = pytest.mark.timeout(120)

NAME = "i-2-3-VM"
#: 16-bit code: write a dot for each start, then echo each byte of COM1
ECHO = bytes.fromhex("b02e baf803 ee bafd03 ec a801 74fb baf803 ec ee ebf1")

__all__ = ["run_directory"]  # a fixture


@pytest.fixture(scope="module")
def authority() -> ScreenAuthority:
    return ScreenAuthority(CertificateAuthority.create("screen CA"))


@pytest_twisted.async_yield_fixture
async def driver(run_directory: Path, authority: ScreenAuthority) -> AsyncIterator[QemuHypervisor]:
    driver = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG, screens=authority)
    yield driver
    await driver.adopt()
    await driver.stop(NAME, forced=True)
    await driver.close()


def with_serial(tmp_path: Path) -> DomainSpec:
    return machine(tmp_path, ECHO, vnc=VncSpec("127.0.0.1", 0, "s3cr3t8x"))


class Daemon:
    """What the daemon answers to a CPVM about a machine of the driver."""

    def __init__(self, authority: ScreenAuthority, logs: Path) -> None:
        self._ports = MachineSerialPorts(authority, logs)

    def _vm(self, status: DomainStatus, uuid: str | None = None) -> Instance:
        class Row:
            instance_name = "serial"
            vnc_address = status.vnc_address
            serial_port = status.serial_port
            serial_fingerprint = status.serial_fingerprint

        row = Row()
        row.uuid = uuid or status.uuid  # type: ignore[attr-defined]
        return row  # type: ignore[return-value]

    def target(self, status: DomainStatus, uuid: str | None = None) -> ConsoleTarget:
        return self._ports.target(self._vm(status, uuid))

    def history(self, status: DomainStatus) -> Callable[[], Awaitable[ConsoleScrollback]]:
        async def read() -> ConsoleScrollback:
            return await self._ports.scrollback(self._vm(status))

        return read


class Console:
    """A console of the port that remembers what it was told."""

    may_type = True

    def __init__(self, port: SerialPort) -> None:
        self.port = port
        self.is_closed = False
        port.join(self)

    def output_ready(self) -> None: ...
    def input_ready(self) -> None: ...
    def answers_changed(self) -> None: ...

    def port_closed(self) -> None:
        self.is_closed = True

    async def until(self, wanted: bytes) -> None:
        """Wait until the port's output ends with this; the test's own time limit ends it."""
        while not self.port.output.read(0, 1 << 20)[1].endswith(wanted):
            await deferLater(reactor, 0.02)

    async def type(self, text: bytes) -> None:
        for at in range(len(text)):  # the guest has no queue
            before = self.port.output.read(0, 1 << 20)[1]
            self.port.write(text[at : at + 1])
            await self.until(before + text[at : at + 1])


@pytest_twisted.ensureDeferred
async def test_a_serial_port_echoes_and_its_log_precedes_a_console(
    driver: QemuHypervisor, authority: ScreenAuthority, tmp_path: Path, run_directory: Path
) -> None:
    status = await driver.start(with_serial(tmp_path))
    assert status.serial_port not in (None, status.vnc_port)
    daemon, ports = Daemon(authority, tmp_path / "log"), SerialPorts(reactor)
    console = Console(await ports.join(daemon.target(status), daemon.history(status)))
    await console.until(b".")
    await console.type(b"hello")
    log = tmp_path / "log/serial.log"
    while log.read_bytes() != b".hello":  # it is written beside a client, and after it
        await deferLater(reactor, 0.02)
    second = Console(await ports.join(daemon.target(status), daemon.history(status)))
    assert second.port is console.port, "QEMU serves one client, which all consoles share"
    await second.type(b"!")
    while log.read_bytes() != b".hello!":
        await deferLater(reactor, 0.02)
    for each in (console, second):
        each.port.leave(each)
    assert not console.port.is_open
    # a later console sees what was written before, by its log
    later = Console(await ports.join(daemon.target(status), daemon.history(status)))
    assert later.port is not console.port
    assert later.port.output.read(0, 100)[1] == b".hello!"
    # a later daemon finds the port again, and the consoles continue
    await driver.close()
    assert (await driver.adopt())[NAME] == status
    await later.type(b"?")
    await driver.stop(NAME, forced=True)
    while not later.is_closed:
        await deferLater(reactor, 0.02)
    assert files(run_directory, f"{NAME}.serial*") == [], "the key ends with its machine"


@pytest_twisted.ensureDeferred
async def test_only_a_certificate_for_this_machine_is_admitted(
    driver: QemuHypervisor, authority: ScreenAuthority, tmp_path: Path
) -> None:
    status = await driver.start(with_serial(tmp_path))
    daemon = Daemon(authority, tmp_path / "log")
    good = daemon.target(status)
    assert good.transport_tls is not None
    stranger = MachineSerialPorts(ScreenAuthority(CertificateAuthority.create("screen CA")), tmp_path)
    other_machine = daemon.target(status, uuid="00000000-0000-4000-8000-000000000009")
    server = evolve(
        good.transport_tls,
        certificate_pem=authority.issue(status.uuid, "127.0.0.1").certificate_pem.decode(),
        private_key_pem="",
    )
    for refused in (
        evolve(good, transport_tls=evolve(good.transport_tls, certificate_pem="", private_key_pem="")),
        other_machine,
        stranger.target(Daemon(authority, tmp_path)._vm(status)),
    ):
        try:
            console = Console(await SerialPorts(reactor).join(refused, daemon.history(status)))
        except ConsoleRefusedError as closed:
            assert closed.refusal is BrowserRefusal.SERIAL_UNREACHABLE
            continue
        while not console.is_closed:  # TLS 1.3 tells a client after its own handshake
            await deferLater(reactor, 0.02)
    unusable = evolve(good, transport_tls=server)
    wrong_pin = evolve(good, transport_tls=evolve(good.transport_tls, fingerprint="0" * 64))
    for target in (unusable, wrong_pin, evolve(good, transport_tls=None)):
        with pytest.raises(ConsoleRefusedError) as refusal:
            await SerialPorts(reactor).join(target, daemon.history(status))
        assert refusal.value.refusal is BrowserRefusal.SERIAL_UNTRUSTED
    console = Console(await SerialPorts(reactor).join(good, daemon.history(status)))
    await console.type(b"x")
    console.port.leave(console)


@pytest_twisted.ensureDeferred
async def test_a_machine_without_tls_only_has_its_log(run_directory: Path, tmp_path: Path) -> None:
    """As machines that an earlier release started, which a later daemon adopts."""
    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    started = await first.start(with_serial(tmp_path))
    assert (started.serial_port, started.serial_fingerprint) == (None, None)
    record = run_directory / f"{NAME}.json"
    members = json.loads(record.read_text())
    del members["serial_port"], members["serial_fingerprint"]
    record.write_text(json.dumps(members))
    await first.close()
    later = QemuHypervisor(
        run_directory,
        NoTaps(),
        Accelerator.TCG,
        screens=ScreenAuthority(CertificateAuthority.create("screen CA")),
    )
    adopted = (await later.adopt())[NAME]
    assert (adopted.state, adopted.serial_port) == (started.state, None)
    log = tmp_path / "log/serial.log"
    while log.read_bytes() != b".":
        await deferLater(reactor, 0.02)
    await later.stop(NAME, forced=True)
    await later.close()
