# SPDX-License-Identifier: Apache-2.0
"""What every part of the daemon stands on: its configuration, lock, database, keys and inventory."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from attrs import frozen

from systemvm.host.config_file import ConfigError
from systemvm.management.config import Configuration
from systemvm.management.first_start import FirstLogin, make_first_accounts
from systemvm.management.inventory import write_inventory
from systemvm.management.page.listener import PageCertificate
from systemvm.management.pki.control import ControlAuthority, DaemonIdentity
from systemvm.management.pki.public import PublicAuthority
from systemvm.management.pki.screens import ScreenAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.pki.ssh_key import SshKey
from systemvm.management.public_certificates.certificate_cache import CertificateCache
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.state.database import Database
from systemvm.management.state.zones import Host
from systemvm.management.zone_model.catalog import ZoneCatalog


@frozen
class Foundation:
    """Files and keys, opened; nothing here runs by itself."""

    configuration: Configuration
    lock: TextIO
    database: Database
    seal: Seal
    authority: ControlAuthority
    identity: DaemonIdentity
    public: PublicAuthority
    sites: PublicSites
    screens: ScreenAuthority
    ssh_key: SshKey
    page_certificate: PageCertificate | None
    first_login: FirstLogin | None
    host: Host
    zones: ZoneCatalog

    @property
    def zone_names(self) -> Mapping[int, str]:
        return self.zones.names

    async def close(self) -> None:
        await self.database.drain()  # parts that were stopped still have writes in the queue
        self.database.close()


def open_foundation(configuration: Configuration) -> Foundation:
    """Open all files of a root and bring the inventory's rows up to date with the configuration.

    Raises: ConfigError when another daemon runs with this root, or no zone is described.
    """
    layout, management = configuration.layout, configuration.management
    layout.make()
    lock = _lock(layout.lock)
    database = Database.open(layout.database)
    seal = Seal.open_key(layout.pki)
    authority = ControlAuthority.open(layout.pki)
    identity = DaemonIdentity(authority, management.host_name)
    ssh_key = SshKey.open(layout.pki)
    first_login = make_first_accounts(database, seal, layout.first_login)
    host = database.run_now(write_inventory, configuration)
    catalog = ZoneCatalog(configuration)
    database.run_now(catalog.load)
    public = PublicAuthority.open(
        layout.pki,
        configuration.current.values(),
        management.page.endpoint,
        configuration.outside_networks.values(),
    )
    page_certificate = PageCertificate(management.page, public) if management.page.ends_tls else None
    sites = PublicSites(lambda name: configuration.zone(name).console, public, CertificateCache(seal))
    database.run_now(sites.load)
    return Foundation(
        configuration=configuration,
        lock=lock,
        database=database,
        seal=seal,
        authority=authority,
        identity=identity,
        public=public,
        sites=sites,
        screens=ScreenAuthority.open(layout.pki),
        ssh_key=ssh_key,
        page_certificate=page_certificate,
        first_login=first_login,
        host=host,
        zones=catalog,
    )


def _lock(path: Path) -> TextIO:
    """Lock a root for the life of the process: two daemons would compete for its machines."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(f"{path}: another management daemon runs with this root") from None
    return file
