# SPDX-License-Identifier: Apache-2.0
"""The control CA's roots: lifetimes, renewal, and a replacement that can be interrupted at any step."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from systemvm.management.pki.control import (
    BOOTSTRAP_LIFETIME,
    ISSUED_LIFETIME,
    ControlAuthority,
    DaemonIdentity,
)
from systemvm.management.pki.control_roots import ControlRoots, Phase
from systemvm.rpc.tls.identity import Identity
from systemvm.wire.role import Role

START = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def certificate(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate_pem)


def test_certificates_are_backdated_by_an_hour_and_have_the_given_lifetime(tmp_path: Path) -> None:
    clock = Clock()
    authority = ControlAuthority.open(tmp_path, clock)
    clock.now = START + timedelta(days=2)
    bootstrap = certificate(authority.bootstrap("s-1-VM", Role.SSVM))
    assert bootstrap.not_valid_before_utc == clock.now - timedelta(hours=1)
    assert bootstrap.not_valid_after_utc == clock.now + BOOTSTRAP_LIFETIME == clock.now + timedelta(days=1)
    daemon = certificate(authority.daemon_identity("h"))
    assert daemon.not_valid_before_utc == clock.now - timedelta(hours=1)
    assert daemon.not_valid_after_utc == clock.now + ISSUED_LIFETIME


def test_the_daemons_own_certificate_is_renewed_at_a_third_left(tmp_path: Path) -> None:
    clock = Clock()
    source = DaemonIdentity(ControlAuthority.open(tmp_path, clock), "h", clock)
    first = source()
    clock.now = START + timedelta(days=19, hours=23)
    assert source() == first
    clock.now = START + timedelta(days=20)
    second = source()
    assert second != first
    assert certificate(second).not_valid_after_utc == START + timedelta(days=50)


def test_every_start_has_fresh_credentials_that_are_valid_on_that_day(tmp_path: Path) -> None:
    clock = Clock()
    authority = ControlAuthority.open(tmp_path, clock)
    first = certificate(authority.bootstrap("v-2-VM", Role.CPVM))
    clock.now = START + timedelta(days=2)  # the VM restarts on its second day
    assert first.not_valid_after_utc < clock.now
    again = certificate(authority.bootstrap("v-2-VM", Role.CPVM))
    assert again.not_valid_before_utc < clock.now < again.not_valid_after_utc
    assert again.serial_number != first.serial_number


def test_both_roots_are_trusted_until_the_last_step(tmp_path: Path) -> None:
    authority = ControlAuthority.open(tmp_path)
    daemon = DaemonIdentity(authority, "h")
    old, bundles = authority.authority.certificate, [authority.ca_pem]
    assert (authority.phase, len(authority.roots.trusted)) == (Phase.STEADY, 1)

    authority.roots.introduce()
    assert authority.phase is Phase.INTRODUCED
    assert authority.roots.trusted[0] == old and len(authority.roots.trusted) == 2
    certificate(daemon()).verify_directly_issued_by(old)
    assert len(daemon().ca_certificates_pem()) == 2
    bundles.append(authority.ca_pem)

    authority.roots.switch()
    new = authority.authority.certificate
    assert authority.phase is Phase.SWITCHED and new != old
    assert authority.roots.trusted == [new, old]
    certificate(daemon()).verify_directly_issued_by(new)  # the daemon's own certificate is reissued
    certificate(authority.bootstrap("s-1-VM", Role.SSVM)).verify_directly_issued_by(new)
    bundles.append(authority.ca_pem)

    authority.roots.finish()
    assert authority.phase is Phase.STEADY and authority.roots.trusted == [new]
    assert daemon().ca_pem == new_pem(tmp_path)
    bundles.append(authority.ca_pem)
    assert len(set(bundles)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["control-ca.crt", "control-ca.key"]


def new_pem(directory: Path) -> bytes:
    return (directory / "control-ca.crt").read_bytes()


def test_restarted_daemon_keeps_its_phase(tmp_path: Path) -> None:
    roots = ControlRoots.open(tmp_path)
    for step, phase in ((roots.introduce, Phase.INTRODUCED), (roots.switch, Phase.SWITCHED)):
        step()
        again = ControlRoots.open(tmp_path)
        assert (again.phase, again.bundle_id) == (phase, roots.bundle_id)
        assert again.current.certificate == roots.current.certificate
    roots.finish()
    assert ControlRoots.open(tmp_path).phase is Phase.STEADY


@pytest.mark.parametrize("cut", range(4))
def test_interrupted_switch_leaves_a_matching_key_and_certificate(tmp_path: Path, cut: int) -> None:
    roots = ControlRoots.open(tmp_path)
    roots.introduce()
    steps = [
        lambda: (tmp_path / "control-ca-previous.crt").write_bytes(roots.current.certificate_pem),
        lambda: (tmp_path / "control-ca-next.key").replace(tmp_path / "control-ca.key"),
        lambda: (tmp_path / "control-ca-next.crt").replace(tmp_path / "control-ca.crt"),
    ]
    for step in steps[:cut]:
        step()
    found = ControlRoots.open(tmp_path)
    assert found.phase is (Phase.INTRODUCED if cut < 2 else Phase.SWITCHED)
    assert found.current.key.public_key() == found.current.certificate.public_key()
    assert roots.current.certificate in found.trusted


def test_root_without_its_key_is_discarded(tmp_path: Path) -> None:
    ControlRoots.open(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    ControlRoots.open(other)
    shutil.copy(other / "control-ca.crt", tmp_path / "control-ca-next.crt")
    assert ControlRoots.open(tmp_path).phase is Phase.STEADY
    assert not (tmp_path / "control-ca-next.crt").exists()
