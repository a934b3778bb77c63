# SPDX-License-Identifier: Apache-2.0
"""The site that browsers and clients of the API reach."""

from __future__ import annotations

from twisted.web.server import Site

from systemvm.management.account_services import AccountServices
from systemvm.management.api.command import CommandTable
from systemvm.management.api.factory import client_resource
from systemvm.management.api.http import PublicAddress
from systemvm.management.api.site import ManagementSite
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.foundation import Foundation
from systemvm.management.inventory import ZoneSettings
from systemvm.management.page.diagnostics_download import DiagnosticsResource
from systemvm.management.page.resource import PageResource
from systemvm.management.page.storage_origins import StorageOrigins
from systemvm.management.system_vm_services import SystemVmServices
from systemvm.rpc.stream.transport import Reactor
from systemvm.web.forwarded import networks


def make_site(
    reactor: Reactor,
    foundation: Foundation,
    system_vms: SystemVmServices,
    settings: ZoneSettings,
    commands: CommandTable,
    accounts: AccountServices,
    revocation: ConsoleRevocation,
) -> Site:
    """Return the page, the HTTP API and downloads of diagnostics, below the advertised path."""
    management = foundation.configuration.management
    page = management.page
    origins = StorageOrigins(
        foundation.database,
        lambda zone_name, address: settings.secondary_storage(zone_name, address).endpoint,
    )
    root = PageResource(
        secure=page.endpoint.scheme == "https",
        public_root_pem=lambda: foundation.public.roots_pem,
        list_origins=origins.list,
        xterm=management.image_source.parent / "xterm",  # the build unpacks it beside the images
    )
    front = PublicAddress.of(page.endpoint, networks(page.trusted_proxies))
    client = client_resource(
        commands,
        foundation.database,
        accounts.authenticator,
        accounts.second_factors,
        reactor,
        front,
        revocation,
        accounts.traffic,
        reactor.callFromThread,
    )
    root.putChild(b"client", client)
    root.putChild(b"diagnostics", DiagnosticsResource(system_vms.diagnostics.find))
    return ManagementSite(root.below(page.endpoint.path))
