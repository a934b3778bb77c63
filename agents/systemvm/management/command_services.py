# SPDX-License-Identifier: Apache-2.0
"""Gathers from the groups of services what the commands of the API call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from systemvm.management.account_services import AccountServices
from systemvm.management.alerts.delivery import AlertDelivery
from systemvm.management.api.commands.certificates import CertificateControl
from systemvm.management.api.commands.diagnostics import DiagnosticsRunner
from systemvm.management.api.commands.system_vms import SystemVmControl
from systemvm.management.api.factory import ApiServices
from systemvm.management.config import Configuration
from systemvm.management.configurations import expunge, image_storage
from systemvm.management.console_services import ConsoleServices
from systemvm.management.foreign_hosts.service import ForeignHosts
from systemvm.management.foundation import Foundation
from systemvm.management.image_services import ImageServices
from systemvm.management.inventory import ZoneSettings
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.machine_services import MachineServices
from systemvm.management.public_name_services import PublicNameServices
from systemvm.management.volume_services import VolumeServices
from systemvm.management.zone_model.changes import ModelChanges


def gather_command_services(
    foundation: Foundation,
    settings: ZoneSettings,
    *,
    jobs: JobRunner,
    images: ImageServices,
    consoles: ConsoleServices,
    machines: MachineServices,
    disks: VolumeServices,
    accounts: AccountServices,
    public_names: PublicNameServices,
    hosts: ForeignHosts,
    alert_delivery: AlertDelivery,
    system_vms: SystemVmControl,
    diagnostics: DiagnosticsRunner,
    certificates: CertificateControl,
    on_zones_changed: Callable[[], None],
    on_configured: Callable[[], Awaitable[None]],
) -> ApiServices:
    """Return the parts of all groups under the names that commands know them by."""
    configuration = foundation.configuration
    page_url = configuration.management.page.endpoint.url
    return ApiServices(
        database=foundation.database,
        seal=foundation.seal,
        host_id=foundation.host.id,
        expunge=configuration.management.expunge,
        jobs=jobs,
        # images
        templates=machines.templates,
        zone_copies=images.zone_copies,
        image_stores=images.stores,
        migrations=images.migrations,
        inspection=images.inspection,
        object_links=images.object_links,
        extraction=images.extraction,
        uploads=images.uploads,
        is_extraction_disabled=lambda name: settings.secondary_storage(name).disable_extraction,
        storage_limit_gib=lambda name: settings.secondary_storage(name).max_account_secondary_storage_gib,
        # consoles
        consoles=consoles.endpoints,
        console_sessions=consoles.sessions,
        end_console=consoles.revocation.of_session,
        recordings=consoles.recordings,
        supervision=consoles.supervision,
        draining=consoles.draining,
        player_url=f"{page_url}/recordings.html",
        # machines and their networks
        virtual_machines=machines.virtual_machines,
        send_machine_data=machines.guest_networks.send_data,
        restart_network=machines.guest_networks.restart,
        screens=machines.screens,
        thumbnails=machines.thumbnails,
        guest_bridge=settings.guest_bridge,
        # disks
        pools=disks.pools,
        pool_maintenance=disks.maintenance,
        volumes=disks.volumes,
        volume_migration=disks.migration,
        volume_uploads=disks.uploads,
        snapshots=disks.snapshots,
        snapshot_policies=disks.snapshot_policies,
        snapshot_images=disks.snapshot_images,
        snapshot_copies=disks.snapshot_copies,
        # accounts
        accounts=accounts.accounts,
        second_factors=accounts.second_factors,
        throttle=accounts.traffic.throttle,
        alert_delivery=alert_delivery,
        # certificates
        certificates=certificates,
        public_certificates=public_names.certificates,
        acme=public_names.acme,
        public_names=public_names.names,
        requested_certificates=public_names.requested,
        renew_page=public_names.renew_page,
        # zones, their hosts and system VMs
        model=ModelChanges(foundation.database, foundation.zones, configuration.labels, on_zones_changed),
        hosts=hosts,
        system_vms=system_vms,
        diagnostics=diagnostics,
        diagnostics_url=f"{page_url}/diagnostics",
        on_configured=on_configured,
        values_of_files=lambda name: values_of_files(configuration, name),
    )


def values_of_files(configuration: Configuration, zone_name: str | None) -> Mapping[str, str]:
    """Return what the daemon's file, or that of a zone, says of settings that are in files, too."""
    if zone_name is None:
        return expunge.texts_of(configuration.management.expunge)
    of_zone = (image_storage.texts_of(zone) for zone in configuration.zones if zone.name == zone_name)
    return next(of_zone, {})
