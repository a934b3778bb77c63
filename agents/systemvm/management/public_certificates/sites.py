# SPDX-License-Identifier: Apache-2.0
"""How browsers reach the system VMs of a zone now, and with which certificate.

A name of the settings is used once a certificate is valid for it, and only as long as one is: consoles and
links never lead to a name that no system VM can prove. Else the origin of the zone's file is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

import msgspec
from attrs import evolve, frozen

from systemvm.host.zone import ConsoleConfig, SecondaryStorageConfig
from systemvm.management.configurations.public_names import (
    ACME_CONTACT,
    ACME_DIRECTORY,
    ACME_STORAGE_DIRECTORY,
    CONSOLE_DOMAIN,
    DEFAULT_ALERT_DAYS,
    EXPIRY_ALERT_DAYS,
    STORAGE_DOMAIN,
)
from systemvm.management.pki.public import PublicAuthority, PublicIdentity
from systemvm.management.public_certificates.certificate_cache import CachedCertificate, CertificateCache
from systemvm.management.public_certificates.file_identities import FileIdentities
from systemvm.management.public_certificates.presented import PresentedCertificates
from systemvm.management.state import columns, configurations, zones
from systemvm.management.state.database import Connection
from systemvm.web.public_endpoint import PublicEndpoint


@frozen
class ZoneNames:
    """The values of a zone's settings; an empty name means that of the zone's file."""

    console: str = ""
    storage: str = ""
    alert_days: int = DEFAULT_ALERT_DAYS
    acme_directory: str = ""
    acme_contact: str = ""
    acme_storage_directory: str = ""


_NONE = ZoneNames()


class PublicSites:
    """Read by several threads; `load` replaces everything that was read before."""

    def __init__(
        self,
        console_of: Callable[[str], ConsoleConfig],
        public: PublicAuthority,
        cache: CertificateCache,
        now: Callable[[], datetime] = columns.now,
    ) -> None:
        """`console_of` returns what the file of a zone says of its consoles."""
        self.cache = cache
        self._presented = PresentedCertificates()
        self._files = FileIdentities(lambda: self.now())
        self.console_of = console_of
        self._public = public
        self.now = now
        self._names: Mapping[str, ZoneNames] = {}

    def load(self, connection: Connection) -> None:
        """Read settings and certificates again."""
        self.cache.load(connection)
        self._names = {
            zone.name: _names_of(configurations.values(connection, zone.id))
            for zone in zones.list_zones(connection)
        }

    @property
    def presented(self) -> PresentedCertificates:
        """Which certificates system VMs have taken."""
        return self._presented

    def names(self, zone_name: str) -> ZoneNames:
        return self._names.get(zone_name, _NONE)

    @property
    def alert_days(self) -> int:
        """The most days of all zones: a certificate belongs to no zone."""
        return max((names.alert_days for names in self._names.values()), default=DEFAULT_ALERT_DAYS)

    def certificate_of(self, host: str) -> CachedCertificate | None:
        """Return the stored certificate that is used for a host."""
        return self.cache.covering(host, self.now())

    def configured(self) -> set[str]:
        """Return the names that the settings of all zones say."""
        values = (host for names in self._names.values() for host in (names.console, names.storage))
        return {host for host in values if host}

    def console(self, zone_name: str, public_address: str) -> PublicEndpoint:
        """Return how browsers reach the CPVM with this public address."""
        return self._console_advertised(zone_name, public_address).at(ip_address(public_address))

    def console_identity(self, zone_name: str, public_address: str) -> PublicIdentity:
        """Return the identity of the CPVM with this public address.

        Raises: NotPermittedError when no certificate is for it.
        """
        console = self.console_of(zone_name)
        advertised = self._console_advertised(zone_name, public_address)
        endpoint = advertised.at(ip_address(public_address))
        if advertised == console.endpoint:
            return self.identity(endpoint, advertised, console.certificate_file, console.key_file)
        return self.identity(endpoint, advertised)

    def _console_advertised(self, zone_name: str, public_address: str) -> PublicEndpoint:
        of_file = self.console_of(zone_name).endpoint
        wanted = self.names(zone_name).console
        if not wanted:
            return of_file
        named = evolve(of_file, host=wanted)
        return named if self.is_served(named.at(ip_address(public_address)).host) else of_file

    def secondary_storage(
        self, zone_name: str, of_file: SecondaryStorageConfig, address: str | None = None
    ) -> SecondaryStorageConfig:
        """Return the settings of a zone with the origin that its SSVMs have now.

        With `address` it is that of the SSVM with this public address: of the names of a domain each can
        have a certificate of its own.
        """
        wanted = self.names(zone_name).storage
        if not wanted:
            return of_file
        host = (
            wanted if address is None else evolve(of_file.endpoint, host=wanted).at(ip_address(address)).host
        )
        if of_file.endpoint.scheme == "https" and not self.is_served(host):
            return of_file
        origin = evolve(of_file.endpoint, host=wanted).url
        return msgspec.structs.replace(of_file, origin=origin, certificate_file=None, key_file=None)

    def identity(
        self,
        endpoint: PublicEndpoint,
        advertised: PublicEndpoint | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        also: str | None = None,
    ) -> PublicIdentity:
        """Return the identity of an endpoint: operator's files, a stored certificate, else the public CA's.

        Files that no system VM could use are passed over: browsers that warn are better than no console.

        Raises: NotPermittedError when none is for it.
        """
        if certificate_file is not None and key_file is not None:
            of_files = self._files.usable(endpoint.host, certificate_file, key_file)
            if of_files is not None:
                return of_files
        found = self.certificate_of(endpoint.host)
        if found is not None:
            return self.cache.identity(found)
        return self._public.identity(endpoint, advertised, also=also)

    def uses_files(self, host: str) -> bool:
        """Return whether a host is proved by an operator's files, which come first."""
        return self._files.is_used(host)

    def file_fault(self, host: str) -> str:
        """Return why the operator's files for a host are not used, or an empty text."""
        return self._files.fault(host)

    def is_served(self, host: str) -> bool:
        """Return whether a certificate is valid for a host, or can be issued by the public CA."""
        return self.certificate_of(host) is not None or self._public.permits(host)

    def root_of(self, host: str) -> str | None:
        """Return the root of a host's stored certificate, empty when everybody knows it; None without one."""
        found = self.certificate_of(host)
        return None if found is None else found.row.root_pem or ""


def _names_of(changed: Mapping[str, str]) -> ZoneNames:
    days = changed.get(EXPIRY_ALERT_DAYS.name)
    return ZoneNames(
        changed.get(CONSOLE_DOMAIN.name, ""),
        changed.get(STORAGE_DOMAIN.name, ""),
        DEFAULT_ALERT_DAYS if days is None else int(days),
        changed.get(ACME_DIRECTORY.name, ""),
        changed.get(ACME_CONTACT.name, ""),
        changed.get(ACME_STORAGE_DIRECTORY.name, ""),
    )
