# SPDX-License-Identifier: Apache-2.0
"""Certificates of VNC servers: one use, one machine, and a CA that is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from systemvm.management.pki.screens import LIFETIME, ScreenAuthority, screen_name

UUID = "8A3F1C52-3E0F-4B5E-9C1D-000000000001"
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def test_a_certificate_is_for_one_machine_and_its_address(tmp_path: Path) -> None:
    identity = ScreenAuthority.open(tmp_path, lambda: NOW).issue(UUID, "10.11.0.1")
    leaf = x509.load_pem_x509_certificate(identity.certificate_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [screen_name(UUID)]
    assert screen_name(UUID) == f"{UUID.lower()}.screen.systemvm"
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.11.0.1")]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert leaf.not_valid_after_utc == NOW + LIFETIME
    assert NOW + timedelta(days=19) < identity.renew_at < NOW + LIFETIME
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(identity.ca_pem))
    assert "PRIVATE" not in repr(identity)


def test_the_ca_is_kept_and_is_no_other_ca(tmp_path: Path) -> None:
    first = ScreenAuthority.open(tmp_path)
    assert ScreenAuthority.open(tmp_path).ca_pem == first.ca_pem
    assert sorted(path.name for path in tmp_path.iterdir()) == ["screen-ca.crt", "screen-ca.key"]
    assert (tmp_path / "screen-ca.key").stat().st_mode & 0o777 == 0o600


def test_each_machine_and_each_renewal_has_a_key_of_its_own(tmp_path: Path) -> None:
    authority = ScreenAuthority.open(tmp_path)
    keys = {authority.issue(UUID, "10.11.0.1").private_key_pem for _ in range(3)}
    assert len(keys) == 3
