# SPDX-License-Identifier: Apache-2.0
"""The TLS of links to images by Mozilla's intermediate profile, as sslyze sees it from the public network."""

from __future__ import annotations

import ipaddress
import time
import uuid
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, world
from integration.ssvm_lab.public_client import ORIGIN
from integration.ssvm_lab.world import STORE, VM, World
from integration.test_cpvm_tls_profile import SCAN_S, SSLYZE
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.public import PublicAuthority
from systemvm.service.slowness import scaled_s
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP, ExtractLink, ExtractLinks, ExtractSetup

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]
__all__ = ["daemon", "world"]  # fixtures

#: As a zone's: constrained to its addresses.
CONSTRAINTS = x509.NameConstraints([x509.IPAddress(ipaddress.ip_network("203.0.113.0/24"))], None)
AUTHORITY = PublicAuthority(CertificateAuthority.create("systemvm public CA", CONSTRAINTS))


@pytest_twisted.ensureDeferred
async def test_sslyze_finds_links_compliant_with_mozillas_profile(
    daemon: Daemon, world: World, tmp_path: Path
) -> None:
    identity = AUTHORITY.issue(VM)
    setup = ExtractSetup(ORIGIN, identity.certificate_pem, identity.private_key_pem)
    link = ExtractLink(str(uuid.uuid4()), "tiny.raw", STORE, 2, 204, time.time() + 600)
    await daemon.call(EXTRACT_SETUP, setup, Acknowledgement)
    await daemon.call(EXTRACT_LINKS, ExtractLinks([link], is_first=True), Acknowledgement)
    root = tmp_path / "root.pem"
    root.write_bytes(AUTHORITY.ca_pem)
    command = [str(SSLYZE), "-m", "sslyze", "--mozilla_config=intermediate", "--certinfo_ca_file", str(root)]
    done = world.in_world(*command, f"{VM}:443", timeout_s=scaled_s(SCAN_S))
    assert done.returncode == 0, done.stdout.decode()[-4000:] + done.stderr.decode()[-2000:]
