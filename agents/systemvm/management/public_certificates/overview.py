# SPDX-License-Identifier: Apache-2.0
"""Every name of the public side: which certificate browsers see there, from which system VMs, and until when.

It is read from what the system VMs of this daemon have taken, else from what they would get.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from ipaddress import ip_address
from typing import Protocol

from attrs import evolve, field, frozen
from cryptography import x509

from systemvm.host.zone import ConsoleConfig, SecondaryStorageConfig
from systemvm.management.pki.public import IdentitySource, PublicIdentity
from systemvm.management.public_certificates.public_service import PublicService, host_at, public_address
from systemvm.management.public_certificates.remarks import remark_on
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.public_certificates.validity import Validity, advice_for, day, validity_of
from systemvm.management.state import instances, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.zones import Zone
from systemvm.service.errors import SystemVmError
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.vm_name import VmName


class PageSite(Protocol):
    """The page of the daemon (`management/page/listener.py`)."""

    @property
    def endpoint(self) -> PublicEndpoint: ...
    @property
    def identity(self) -> PublicIdentity: ...
    @property
    def failure(self) -> str: ...


@frozen(kw_only=True)
class PublicName:
    """A name, and the certificate that proves it."""

    service: PublicService
    endpoint: PublicEndpoint
    zone: Zone | None = None
    wanted: str = ""  # what the setting says
    wanted_host: str = ""  # the name that these system VMs have by it
    identity: PublicIdentity | None = field(default=None, repr=False)
    system_vms: tuple[str, ...] = ()
    validity: Validity = Validity.NONE
    reason: str = ""
    hint: str = ""

    @property
    def id(self) -> str:
        """Return what names it: `zone1/console/console.example.org`."""
        zone = [] if self.zone is None else [self.zone.name]
        return "/".join([*zone, self.service.value, self.wanted_host or self.endpoint.host])

    @property
    def leaf(self) -> x509.Certificate | None:
        return (
            None if self.validity is Validity.NONE or not self.identity else self.identity.certificates()[0]
        )

    @property
    def source(self) -> IdentitySource | None:
        return None if self.identity is None else self.identity.source


#: Where a group of system VMs is reached, and the name that they have by the setting.
_Place = tuple[PublicEndpoint, str]


class PublicNames:
    """Lists them; `up` returns the names of the system VMs that are connected."""

    def __init__(
        self,
        sites: PublicSites,
        console_of: Callable[[str], ConsoleConfig],
        storage_of: Callable[[str, str | None], SecondaryStorageConfig],
        up: Callable[[], Collection[str]],
        page: PageSite | None = None,
    ) -> None:
        """`console_of` returns what the file of a zone says, `storage_of` what holds now, by its name and the
        address of an SSVM.
        """
        self._sites = sites
        self._console_of = console_of
        self._storage_of = storage_of
        self._up = up
        self._page = page

    def read(self, connection: Connection) -> list[PublicName]:
        """Return the names of all zones, and that of the page when the daemon ends its TLS."""
        up = {VmName(name) for name in self._up()}
        found: list[PublicName] = []
        for zone in zones.list_zones(connection):
            machines = [
                vm for vm in instances.list_system(connection, zone.id) if VmName(vm.instance_name) in up
            ]
            for service in (PublicService.CONSOLE, PublicService.STORAGE):
                own = [vm for vm in machines if vm.type is service.vm_type]
                found += self._of_zone(connection, zone, service, own)
        return found + ([] if self._page is None else [self._of_page(self._page)])

    def hosts(self, connection: Connection) -> set[str]:
        """Return the names and wildcards of zones that are used, now or when a certificate is for them."""
        found = set()
        for zone in zones.list_zones(connection):
            wanted = self._sites.names(zone.name)
            found |= {wanted.console, wanted.storage}
            found.add(self._console_of(zone.name).endpoint.host)
            found.add(self._storage_of(zone.name, None).endpoint.host)
        return found - {""}

    def _of_zone(
        self, connection: Connection, zone: Zone, service: PublicService, machines: Sequence[Instance]
    ) -> Iterator[PublicName]:
        wanted = service.wanted(self._sites.names(zone.name))
        is_console = service is PublicService.CONSOLE
        section = self._console_of(zone.name) if is_console else self._storage_of(zone.name, None)
        advertised = section.endpoint
        if advertised.scheme != "https":
            return  # the proxy in front has the certificate
        places: dict[_Place, list[str]] = {}
        for vm in machines:
            address = public_address(connection, vm)
            if address is None:
                continue
            if is_console:
                at = self._sites.console(zone.name, address)
            else:
                at = self._storage_of(zone.name, address).endpoint.at(ip_address(address))
            place = at, host_at(wanted, address) if wanted else ""
            places.setdefault(place, []).append(vm.instance_name)
        if not places:
            places[evolve(advertised, host=wanted or advertised.host), wanted] = []
        for (endpoint, wanted_host), names in places.items():
            name = PublicName(
                service=service,
                endpoint=endpoint,
                zone=zone,
                wanted=wanted,
                wanted_host=wanted_host,
                system_vms=tuple(names),
            )
            yield self._remarked(self._with_certificate(name))

    def _with_certificate(self, name: PublicName) -> PublicName:
        try:
            identity = self._identity(name)
        except (OSError, SystemVmError) as error:
            return evolve(name, reason=f"certificate cannot be read: {error}")
        return name if identity is None else self._judged(name, identity)

    def _identity(self, name: PublicName) -> PublicIdentity | None:
        """Return the one in use that ends first, else that of the operator."""
        host, zone_name = name.endpoint.host, "" if name.zone is None else name.zone.name
        presented = [self._sites.presented.of(vm) for vm in name.system_vms]
        taken = [one.identity for one in presented if one is not None and one.identity and one.host == host]
        if taken:
            return min(taken, key=lambda each: each.not_after)
        section = (
            self._console_of(zone_name)
            if name.service is PublicService.CONSOLE
            else self._storage_of(zone_name, None)
        )
        if section.certificate_file is not None and section.key_file is not None:
            return PublicIdentity.read(section.certificate_file, section.key_file)
        found = self._sites.certificate_of(host)
        return None if found is None else self._sites.cache.identity(found)

    def _remarked(self, name: PublicName) -> PublicName:
        """Return it with what is shown beside `Up` of its system VMs, which comes first."""
        names = self._sites.names("" if name.zone is None else name.zone.name)
        for vm in name.system_vms:
            remark = remark_on(self._sites, names, name.wanted, name.endpoint, vm)
            if remark is not None:
                return evolve(name, reason=remark.reason, hint=remark.hint)
        return name

    def _of_page(self, page: PageSite) -> PublicName:
        name = self._judged(PublicName(service=PublicService.PAGE, endpoint=page.endpoint), page.identity)
        if not page.failure:
            return name
        hint = "correct the files: the one before stays in use"
        return evolve(name, reason=f"cannot be renewed: {page.failure}", hint=hint)

    def _judged(self, name: PublicName, identity: PublicIdentity) -> PublicName:
        """Return a name with a certificate and whether it is still valid."""
        try:
            leaf, end = identity.certificates()[0], identity.not_after
        except ValueError:
            return evolve(name, identity=identity, reason="file contains no certificate in PEM")
        now, host = self._sites.now(), name.endpoint.host
        zone_names = None if name.zone is None else self._sites.names(name.zone.name)
        days = self._sites.alert_days if zone_names is None else zone_names.alert_days
        validity = validity_of(identity.source, leaf.not_valid_before_utc, end, now, days)
        name = evolve(name, identity=identity, validity=validity)
        if validity is Validity.VALID:
            return name
        verb = "expired on" if validity is Validity.EXPIRED else "expires on"
        reason = f"certificate of {host} {verb} {day(end)}"
        return evolve(name, reason=reason, hint=advice_for(identity.source))
