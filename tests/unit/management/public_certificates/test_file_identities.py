# SPDX-License-Identifier: Apache-2.0
"""Certificates in files: those that no system VM could use are passed over, and the last good one is kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509

from public_pki import DOMAIN, INTERMEDIATE, NOW, Issued, issue, server
from small_cloud import SmallCloud
from systemvm.host.zone import ConsoleConfig
from systemvm.management.pki.public import IdentitySource
from systemvm.management.public_certificates.file_identities import FileIdentities
from systemvm.management.public_certificates.remarks import remark_on
from systemvm.management.public_certificates.sites import ZoneNames
from systemvm.web.public_endpoint import PublicEndpoint

ADDRESS = "203.0.113.9"


def write(folder: Path, leaf: Issued, key_pem: str | None = None) -> tuple[Path, Path]:
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_text(leaf.pem + INTERMEDIATE.pem)
    key.write_text(key_pem or leaf.key_pem)
    return chain, key


@pytest.mark.parametrize(
    ("leaf", "key_pem", "fault"),
    [
        (server(DOMAIN, ends=NOW - timedelta(hours=1)), None, "it expired on"),
        (server(DOMAIN, starts=NOW + timedelta(days=1)), None, "it is not valid before"),
        (server(f"other.{DOMAIN}"), None, f"it is not for {DOMAIN}"),
        (server(DOMAIN), server(DOMAIN).key_pem, "key_file has another key"),
        (server(DOMAIN), "no key", "key_file contains no private key"),
    ],
)
def test_what_no_system_vm_could_use_is_passed_over_and_the_last_good_one_kept(
    tmp_path: Path, leaf: Issued, key_pem: str | None, fault: str
) -> None:
    times = [NOW]
    files = FileIdentities(lambda: times[-1])
    assert files.usable(DOMAIN, *write(tmp_path, leaf, key_pem)) is None
    assert fault in files.fault(DOMAIN)
    good = server(DOMAIN)
    taken = files.usable(DOMAIN, *write(tmp_path, good))
    assert taken is not None and taken.private_key_pem == good.key_pem
    assert (taken.source, files.fault(DOMAIN)) == (IdentitySource.FILE, "")
    assert files.usable(DOMAIN, *write(tmp_path, leaf, key_pem)) == taken
    assert fault in files.fault(DOMAIN), "it is shown all the same"
    times.append(NOW + timedelta(days=91))
    assert files.usable(DOMAIN, *write(tmp_path, leaf, key_pem)) is None, "it has ended as well"


@pytest_twisted.ensureDeferred
async def test_consoles_go_on_with_the_public_ca_when_a_file_has_expired(
    cloud: SmallCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(ADDRESS))])
    leaf = issue(
        "server",
        INTERMEDIATE,
        ends=NOW + timedelta(days=1),
        build=lambda builder: builder.add_extension(names, critical=False),
    )
    chain, key = write(tmp_path, leaf)
    cloud.console = ConsoleConfig(origin=f"https://{ADDRESS}", certificate_file=chain, key_file=key)
    endpoint = PublicEndpoint("https", ADDRESS, 443)
    assert cloud.sites.console_identity(cloud.zone.name, ADDRESS).source is IdentitySource.FILE
    assert remark_on(cloud.sites, ZoneNames(alert_days=0), "", endpoint) is None
    later: datetime = NOW + timedelta(days=2)
    monkeypatch.setattr(cloud.sites, "now", lambda: later)
    assert cloud.sites.console_identity(cloud.zone.name, ADDRESS).source is IdentitySource.OWN
    remark = remark_on(cloud.sites, ZoneNames(), "", endpoint)
    assert remark is not None
    assert f"certificate_file of {ADDRESS} is not used: it expired on" in remark.reason
    assert "replace certificate_file" in remark.hint
    key.unlink()
    assert cloud.sites.console_identity(cloud.zone.name, ADDRESS).source is IdentitySource.OWN
