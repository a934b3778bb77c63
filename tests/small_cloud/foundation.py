# SPDX-License-Identifier: Apache-2.0
"""What the daemon's services stand on: a configuration of one zone, an open database, and new keys."""

from __future__ import annotations

import io
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from cryptography import x509

from small_cloud.rows import NETWORKS
from systemvm.host.layout import Layout
from systemvm.host.zone import ConsoleConfig, ZoneConfig
from systemvm.management.config import Configuration, ManagementConfig
from systemvm.management.foundation import Foundation
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority, DaemonIdentity
from systemvm.management.pki.public import PublicAuthority
from systemvm.management.pki.screens import ScreenAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.pki.ssh_key import SshKey
from systemvm.management.public_certificates.certificate_cache import CertificateCache
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.state import zones
from systemvm.management.state.database import Database
from systemvm.management.zone_model.catalog import ZoneCatalog

#: What the public CA can sign for: the addresses of NETWORKS.public.
PUBLIC_NAMES = x509.NameConstraints([x509.IPAddress(IPv4Network("203.0.113.0/24"))], None)


class OneDirectory(Layout):
    """A layout that has disks and logs beside the database."""

    @property
    def primary(self) -> Path:
        return self.root

    @property
    def logs(self) -> Path:
        return self.root

    @property
    def mounts(self) -> Path:
        return self.root / "pools"


def make_foundation(
    directory: Path,
    database: Database,
    seal: Seal,
    zone: zones.Zone,
    host: zones.Host,
    console_of: Callable[[str], ConsoleConfig],
) -> Foundation:
    """Make what `open_foundation` opens, without files; `console_of` returns what a zone's file says."""
    file = ZoneConfig(zone.name, NETWORKS, [IPv4Address("203.0.113.10")])
    configuration = Configuration(OneDirectory(directory), ManagementConfig(), [file])
    catalog = ZoneCatalog(configuration)
    database.run_now(catalog.load)
    authority = ControlAuthority(CertificateAuthority.create("control CA"))
    public = PublicAuthority(CertificateAuthority.create("public CA", PUBLIC_NAMES))
    return Foundation(
        configuration=configuration,
        lock=io.StringIO(),
        database=database,
        seal=seal,
        authority=authority,
        identity=DaemonIdentity(authority, host.name),
        public=public,
        sites=PublicSites(console_of, public, CertificateCache(seal)),
        screens=ScreenAuthority(CertificateAuthority.create("screen CA")),
        ssh_key=SshKey(directory / "ssh_key", "ssh-ed25519 AAAA systemvm"),
        page_certificate=None,
        first_login=None,
        host=host,
        zones=catalog,
    )
