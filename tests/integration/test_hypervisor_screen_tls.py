# SPDX-License-Identifier: Apache-2.0
"""VNC servers of the driver's machines: TLS by default, renewal, adoption and the opt-out."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from integration.qemu_lab import NoTaps, machine, run_directory
from integration.test_cpvm_targets import dial, refusal
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.base import DomainSpec, DomainStatus, VncSpec
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.pki.authority import utc_now
from systemvm.management.pki.screens import LIFETIME, ScreenAuthority, screen_name
from systemvm.wire.console import ConsoleTarget, TargetTls

pytestmark = pytest.mark.timeout(120)

PASSWORD = "s3cr3t8x"
NAME = "i-2-3-VM"

__all__ = ["run_directory"]  # a fixture


class Pki:
    """A directory with the screen CA, and a clock that a test can set forward."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ahead = timedelta()
        directory.mkdir(exist_ok=True)

    def now(self) -> datetime:
        return utc_now() + self.ahead

    def open(self) -> ScreenAuthority:
        return ScreenAuthority.open(self._directory, self.now)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


@pytest_twisted.async_yield_fixture
async def driver(run_directory: Path, pki: Pki) -> AsyncIterator[QemuHypervisor]:
    driver = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG, screens=pki.open())
    yield driver
    await driver.adopt()
    await driver.stop(NAME, forced=True)
    await driver.close()


def with_screen(tmp_path: Path, **more: Any) -> DomainSpec:
    return machine(tmp_path, vnc=VncSpec("127.0.0.1", 0, PASSWORD), **more)


def target(status: DomainStatus, name: str | None = None, ca_pem: str | None = None) -> ConsoleTarget:
    """Return what the daemon answers to a CPVM about this machine."""
    assert status.vnc_address and status.vnc_port
    tls = None
    if status.vnc_ca_pem is not None:
        tls = TargetTls(ca_pem or status.vnc_ca_pem, name or screen_name(status.uuid))
    return ConsoleTarget(status.vnc_address, status.vnc_port, PASSWORD, vencrypt=tls)


def presenting(certificate_pem: bytes, status: DomainStatus) -> ConsoleTarget:
    """Return a target that must present this very certificate."""
    der = ssl.PEM_cert_to_DER_cert(certificate_pem.decode())
    tls = TargetTls(status.vnc_ca_pem or "", screen_name(status.uuid), hashlib.sha256(der).hexdigest())
    return evolve(target(status), vencrypt=tls)


@pytest_twisted.ensureDeferred
async def test_a_machines_screen_has_tls_and_its_own_name(
    driver: QemuHypervisor, tmp_path: Path, run_directory: Path, pki: Pki
) -> None:
    status = await driver.start(with_screen(tmp_path))
    assert status.vnc_ca_pem == pki.open().ca_pem.decode()
    connection = await dial(target(status))
    assert connection.server_init.width_px
    connection.stream.close()
    # the host's address is in the certificate, too; another machine's name is not
    (await dial(target(status, name="127.0.0.1"))).stream.close()
    other = screen_name("00000000-0000-4000-8000-000000000009")
    assert await refusal(target(status, name=other)) is BrowserRefusal.SCREEN_UNTRUSTED
    plain = ConsoleTarget("127.0.0.1", status.vnc_port or 0, PASSWORD)
    assert await refusal(plain) is BrowserRefusal.SCREEN_FAULTY, "VncAuth without TLS is not offered"
    directory = run_directory / f"{NAME}.screen"
    assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == {
        "ca-cert.pem": 0o640,
        "server-cert.pem": 0o640,
        "server-key.pem": 0o640,
    }
    assert directory.stat().st_mode & 0o777 == 0o750
    await driver.stop(NAME, forced=True)
    assert not directory.exists(), "the key ends with its machine"


@pytest_twisted.ensureDeferred
async def test_a_certificate_is_renewed_while_the_machine_runs(
    driver: QemuHypervisor, tmp_path: Path, run_directory: Path, pki: Pki
) -> None:
    certificate = run_directory / f"{NAME}.screen" / "server-cert.pem"
    pki.ahead = -LIFETIME * 2 / 3 - timedelta(hours=1)
    status = await driver.start(with_screen(tmp_path))
    first = certificate.read_bytes()
    await driver.renew_screens()
    assert certificate.read_bytes() == first, "it is not due"
    open_before = await dial(target(status))
    pki.ahead = timedelta(days=9)  # QEMU rejects a certificate that is not valid yet, and keeps its own
    await driver.renew_screens()
    (await dial(presenting(first, status))).stream.close()
    pki.ahead = timedelta()
    await driver.renew_screens()  # tried again
    second = certificate.read_bytes()
    assert second != first
    assert driver.status(NAME) == status, "the machine is the same process"
    (await dial(presenting(second, status))).stream.close()
    assert await refusal(presenting(first, status)) is BrowserRefusal.SCREEN_UNTRUSTED
    buffer = memoryview(bytearray(10))
    with pytest.raises(BlockingIOError):
        open_before.stream.read_into(buffer)  # still open
    open_before.stream.close()


@pytest_twisted.ensureDeferred
async def test_an_adopted_machine_gets_a_certificate_of_todays_ca(
    driver: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    earlier = Pki(tmp_path / "earlier")
    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG, screens=earlier.open())
    started = await first.start(with_screen(tmp_path))
    await first.close()
    adopted = (await driver.adopt())[NAME]
    assert adopted.vnc_ca_pem != started.vnc_ca_pem
    (await dial(target(adopted))).stream.close()
    assert await refusal(target(adopted, ca_pem=started.vnc_ca_pem)) is BrowserRefusal.SCREEN_UNTRUSTED


@pytest_twisted.ensureDeferred
async def test_an_adopted_machine_without_tls_goes_on(
    driver: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    first = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    await first.start(with_screen(tmp_path))
    await first.close()
    adopted = (await driver.adopt())[NAME]
    assert adopted.vnc_ca_pem is None
    (await dial(target(adopted))).stream.close()
    await driver.renew_screens()
    (await dial(target(adopted))).stream.close()


@pytest_twisted.ensureDeferred
async def test_without_tls_only_on_request(driver: QemuHypervisor, tmp_path: Path, pki: Pki) -> None:
    """Machines with TLS keep it when a later daemon has opted out."""
    encrypted = await driver.start(with_screen(tmp_path))
    await driver.close()
    opted_out = QemuHypervisor(
        driver._records.directory, NoTaps(), Accelerator.TCG, screens=pki.open(), vnc_tls=False
    )
    adopted = (await opted_out.adopt())[NAME]
    assert adopted.vnc_ca_pem == encrypted.vnc_ca_pem
    (await dial(target(adopted))).stream.close()
    await opted_out.stop(NAME, forced=True)
    plain = await opted_out.start(with_screen(tmp_path))
    assert plain.vnc_ca_pem is None
    (await dial(target(plain))).stream.close()
    await opted_out.stop(NAME, forced=True)
    await opted_out.close()
