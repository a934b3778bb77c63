# SPDX-License-Identifier: Apache-2.0
"""The connection of an agent process to the daemon: hello, renewal, reconnects and a wrong CA."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509

from integration.agent_lab.agent_process import NAME, Setup, setup
from integration.agent_lab.fake_daemon import WAIT_S, FakeDaemon, soon
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority
from systemvm.rpc.core.method import Caller
from systemvm.wire import agent as wire
from systemvm.wire import boot_arguments, protocol

__all__ = ["setup"]

pytestmark = pytest.mark.timeout(60)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest_twisted.ensureDeferred
async def test_an_agent_sends_hello_and_its_unit_is_ready(setup: Setup) -> None:
    daemon, machine = setup
    started_unix_s = time.time()
    step_s = 60.0  # more than a machine's clock is set back meanwhile
    machine.start()
    await machine.notices.until(lambda text: text.startswith("READY=1"), "READY")
    peer, hello = await soon(daemon.hellos.get(), "hello")
    assert peer.caller == Caller(NAME, "ssvm")
    assert (hello.name, hello.role, hello.protocol_version) == (NAME, "ssvm", protocol.CURRENT)
    assert (hello.image_version, hello.image_sha256) == ("7", "ab")
    assert hello.host_keys == ["ssh-ed25519 AAAA"]
    assert hello.boot_id == BOOT_ID
    assert started_unix_s - step_s <= hello.clock_unix_s <= time.time() + step_s
    await machine.notices.until(lambda text: text.startswith("STATUS=Up"), "STATUS=Up")


@pytest_twisted.ensureDeferred
async def test_an_older_daemon_receives_hello_again_in_its_version(setup: Setup) -> None:
    daemon, machine = setup
    daemon.protocol_version = 2
    machine.start()
    first = await soon(daemon.hellos.get(), "hello")
    second = await soon(daemon.hellos.get(), "hello again")
    assert first[0] is second[0], "on the same connection"
    assert [hello.protocol_version for _, hello in (first, second)] == [protocol.CURRENT, 2]
    await machine.notices.until(lambda text: text.startswith("STATUS=Up"), "STATUS=Up")
    await machine.notices.until(lambda text: text.startswith("WATCHDOG=1"), "watchdog")
    await soon(daemon.pings.get(), "ping")


@pytest_twisted.ensureDeferred
async def test_an_agent_reconnects_with_its_own_certificate(setup: Setup) -> None:
    daemon, machine = setup
    agent = machine.start()
    first, _ = await soon(daemon.hellos.get(), "hello")
    signed = x509.load_pem_x509_certificate((await soon(daemon.signed.get(), "signing request")).encode())
    assert not daemon.hellos.pending
    await machine.notices.until(lambda text: "STATUS=Up" in text, "STATUS=Up")
    own_identity = machine.paths.own_identity
    await first.call(wire.PING, wire.Ping(0.0))  # the response to its renewal was read before this
    assert stat.S_IMODE(own_identity.stat().st_mode) == 0o600
    # without the credential, the next connection cannot use the bootstrap identity
    (machine.credentials / boot_arguments.IDENTITY_CREDENTIAL).unlink()

    await daemon.stop()
    await machine.notices.until(lambda text: "STATUS=Disconnected" in text, "STATUS=Disconnected")
    await daemon.start()
    peer, _ = await soon(daemon.hellos.get(), "second hello")
    assert peer.caller == Caller(NAME, "ssvm")
    await machine.notices.until(lambda text: "STATUS=Up" in text, "STATUS=Up again")
    health = await peer.call(wire.HEALTH, result=wire.Health)
    assert health.reconnects == 1
    assert not agent.ended.called
    assert x509.load_pem_x509_certificate(own_identity.read_bytes()).serial_number == signed.serial_number
    assert not daemon.signed.pending, "a certificate with all its life left was renewed"


@pytest_twisted.ensureDeferred
async def test_a_refused_certificate_is_reported_and_the_agent_stays_connected(setup: Setup) -> None:
    daemon, machine = setup
    daemon.signing_refusal = "not today"
    machine.start()
    status = await machine.notices.until(lambda text: "cannot renew the certificate" in text, "status")
    assert "not today; next attempt in " in status
    peer, _ = await soon(daemon.hellos.get(), "hello")
    assert not peer.closed
    daemon.signing_refusal = ""
    # the daemon sends this when its CA is replaced, or for an operator
    await peer.call(wire.RENEW, deadline_s=WAIT_S)
    await soon(daemon.signed.get(), "signature")
    await machine.notices.until(lambda text: text.startswith("STATUS=Up") and "renew" not in text, "Up")


@pytest_twisted.ensureDeferred
async def test_an_agent_is_ready_without_a_daemon_and_retries(setup: Setup) -> None:
    daemon, machine = setup
    await daemon.stop()
    agent = machine.start()
    await machine.notices.until(lambda text: text.startswith("READY=1"), "READY")
    await machine.notices.until(
        lambda text: "Enrolling" in text and "refused" in text, "the reason in STATUS"
    )
    await daemon.start()
    await soon(daemon.hellos.get(), "hello")
    assert not agent.ended.called


@pytest_twisted.ensureDeferred
async def test_a_daemon_of_another_ca_receives_no_hello(setup: Setup) -> None:
    daemon, machine = setup
    agent = machine.start()
    await soon(daemon.hellos.get(), "hello")
    await daemon.stop()
    other = FakeDaemon(ControlAuthority(CertificateAuthority.create("other")))
    other.port_number = daemon.port_number
    await other.start()
    try:
        await machine.notices.until(
            lambda text: "STATUS=Disconnected" in text and "wrong-ca" in text, "the failed check"
        )
        assert not other.hellos.pending
        assert not other.peers
        assert not agent.ended.called
    finally:
        await other.stop()
    await daemon.start()
    await soon(daemon.hellos.get(), "hello to the daemon")
