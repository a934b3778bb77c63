# SPDX-License-Identifier: Apache-2.0
"""What browsers reach by a public name: consoles, images, or the page."""

from __future__ import annotations

import enum
from ipaddress import ip_address

from attrs import evolve

from systemvm.management.public_certificates.sites import ZoneNames
from systemvm.management.state import instances
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceType
from systemvm.web.public_endpoint import PublicEndpoint


class PublicService(enum.Enum):
    CONSOLE = "console"
    STORAGE = "secondarystorage"
    PAGE = "page"

    @property
    def vm_type(self) -> InstanceType | None:
        return {
            PublicService.CONSOLE: InstanceType.CONSOLE_PROXY,
            PublicService.STORAGE: InstanceType.SECONDARY_STORAGE,
        }.get(self)

    def wanted(self, names: ZoneNames) -> str:
        """Return the name of the settings, or an empty text."""
        return {PublicService.CONSOLE: names.console, PublicService.STORAGE: names.storage}.get(self, "")

    def acme_directory(self, names: ZoneNames) -> str:
        """Return the ACME directory of the settings, or an empty text."""
        return {
            PublicService.CONSOLE: names.acme_directory,
            PublicService.STORAGE: names.acme_storage_directory,
        }.get(self, "")


def host_at(wanted: str, address: str) -> str:
    """Return the name of the system VM with this address: the one of the settings, or one of its domain."""
    return evolve(PublicEndpoint("https", "", 443), host=wanted).at(ip_address(address)).host


def public_address(connection: Connection, vm: Instance) -> str | None:
    nic = instances.outside_nic(instances.nics_of(connection, vm.id))
    return None if nic is None else nic.reached_at
