# SPDX-License-Identifier: Apache-2.0
"""Links to serial ports: their kind, their CPVM, and what a CPVM is told about the port."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509

from console_tokens import authorize, target
from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.consoles.serial_ports import SCROLLBACK_BYTES, MachineSerialPorts
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.screens import CLIENT_LIFETIME, ScreenAuthority, serial_client_name
from systemvm.management.state import console_sessions, instances
from systemvm.management.state.instances import Instance
from systemvm.wire.console import ConsoleKind


@pytest.fixture
def serial_vm(cloud: SmallCloud, vm: Instance) -> Instance:
    return cloud.database.run_now(instances.update, vm.id, serial_port=5950, serial_fingerprint="ab" * 32)


async def link(cloud: SmallCloud, vm: Instance, **more: str) -> str:
    answer = await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid, kind="serial", **more)
    endpoint = answer["consoleendpoint"]
    assert endpoint["success"], endpoint
    return str(endpoint["websocket"]["token"])


@pytest_twisted.ensureDeferred
async def test_a_cpvm_is_told_the_port_and_what_admits_to_it(cloud: SmallCloud, serial_vm: Instance) -> None:
    session = await authorize(cloud, await link(cloud, serial_vm))
    assert session.kind is ConsoleKind.SERIAL
    found = await target(cloud, session.session_id)
    assert (found.kind, found.port, found.password, found.vencrypt) == (ConsoleKind.SERIAL, 5950, None, None)
    tls = found.transport_tls
    assert tls is not None and tls.fingerprint == "ab" * 32
    assert tls.private_key_pem and tls.private_key_pem not in repr(found)
    certificate = x509.load_pem_x509_certificate(tls.certificate_pem.encode())
    [name] = certificate.subject
    assert name.value == serial_client_name(serial_vm.uuid)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < 10 * CLIENT_LIFETIME
    [listed] = (await cloud.call("listConsoleSessions"))["consolesession"]
    assert listed["kind"] == "serial"


@pytest_twisted.ensureDeferred
async def test_a_vm_without_a_port_and_an_unknown_kind_are_refused(cloud: SmallCloud, vm: Instance) -> None:
    answer = await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid, kind="serial")
    assert answer["consoleendpoint"]["success"] is False
    with pytest.raises(ApiError, match="kind"):
        await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid, kind="parallel")


@pytest_twisted.ensureDeferred
async def test_consoles_of_a_port_share_a_cpvm_and_screens_do_not_replace_them(
    cloud: SmallCloud, serial_vm: Instance, other_proxy: Instance
) -> None:
    first = await authorize(cloud, await link(cloud, serial_vm))
    row = cloud.database.run_now(console_sessions.by_uuid, first.session_id)
    for _ in range(3):  # the other CPVM has less to do
        waiting = await link(cloud, serial_vm)
        await cloud.call("createConsoleEndpoint", virtualmachineid=serial_vm.uuid)
        second = await authorize(cloud, waiting)
        assert cloud.database.run_now(console_sessions.by_uuid, second.session_id).proxy_id == row.proxy_id


@pytest_twisted.ensureDeferred
async def test_the_end_of_the_log_is_what_was_there_before(tmp_path: Path, serial_vm: Instance) -> None:
    ports = MachineSerialPorts(ScreenAuthority(CertificateAuthority.create("screen CA")), tmp_path)
    assert (await ports.scrollback(serial_vm)).text == b""
    log = tmp_path / f"{serial_vm.instance_name}.log"
    log.write_bytes(b"a" * 10 + b"b" * SCROLLBACK_BYTES)
    assert (await ports.scrollback(serial_vm)).text == b"b" * SCROLLBACK_BYTES
