# SPDX-License-Identifier: Apache-2.0
"""The services for public names: their certificates, and the ACME server that renews them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen
from cryptography import x509

from systemvm.management.control.directory import AgentDirectory
from systemvm.management.foundation import Foundation
from systemvm.management.inventory import ZoneSettings
from systemvm.management.public_certificates.acme_renewal import AcmeRenewal
from systemvm.management.public_certificates.overview import PublicNames
from systemvm.management.public_certificates.requests import RequestedCertificates
from systemvm.management.public_certificates.service import PublicCertificates, Sender
from systemvm.rpc.stream.transport import Reactor
from systemvm.wire.role import Role


@frozen
class PublicNameServices:
    """What commands ask about public names."""

    certificates: PublicCertificates
    acme: AcmeRenewal
    names: PublicNames
    requested: RequestedCertificates
    renew_page: Callable[[], None]


def make_public_name_services(
    reactor: Reactor,
    foundation: Foundation,
    directory: AgentDirectory,
    settings: ZoneSettings,
    senders: Iterable[Sender],
    *,
    roots: Callable[[], list[x509.Certificate]] | None = None,
) -> PublicNameServices:
    """Make all parts; nothing runs before `AcmeRenewal.start`. `senders` send certificates to system VMs."""
    page = foundation.page_certificate
    certificates = PublicCertificates(foundation.database, foundation.seal, foundation.sites, roots)
    certificates.senders += senders
    page_host = foundation.configuration.management.page.endpoint.host
    names = PublicNames(
        foundation.sites,
        foundation.sites.console_of,
        settings.secondary_storage,
        lambda: [*directory.up(Role.CPVM), *directory.up(Role.SSVM)],
        page,
    )
    return PublicNameServices(
        certificates=certificates,
        acme=AcmeRenewal(
            reactor,
            foundation.database,
            directory,
            foundation.seal,
            certificates,
            settings.secondary_storage,
        ),
        names=names,
        requested=RequestedCertificates(
            foundation.database,
            foundation.public,
            lambda connection: {*names.hosts(connection), page_host},
        ),
        renew_page=page.renew if page is not None else _no_page,
    )


def _no_page() -> None:
    """Stand for the renewal of a page whose certificate a proxy has."""
