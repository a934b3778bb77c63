# SPDX-License-Identifier: Apache-2.0
"""What an SSVM is told to download, from where, and within which limits."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from systemvm.management.state import zones
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.database import Connection
from systemvm.management.state.pending_work import DownloadTask
from systemvm.management.state.storage_quota import quota_left
from systemvm.management.templates.sources import TemplateSources, trusted_pem
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.wire.source_access import SourceAccess
from systemvm.wire.storage import DownloadRequest, TransferRates


class DownloadSettings(StoreSettings, Protocol):
    """The settings of a zone for downloads, read at the time of each call."""

    def source_ca_pem(self, zone_name: str) -> str | None: ...
    def source_access(self, zone_name: str) -> SourceAccess: ...
    def max_template_size_bytes(self, zone_name: str) -> int: ...
    def own_networks(self) -> list[str]: ...


@frozen
class DownloadOrders:
    """Makes orders of templates' rows and the settings of their zones."""

    settings: DownloadSettings
    sources: TemplateSources

    def request(self, connection: Connection, task: DownloadTask) -> DownloadRequest:
        """Return the order of a copy that is downloaded from the template's URL, which can be empty."""
        template, zone = task.template, task.zone
        storage_settings = self.settings.secondary_storage(zone.name)
        return DownloadRequest(
            job_id=task.ref.job_id,
            request_id=task.ref.request_id or new_uuid(),
            template_id=template.id,
            account_id=template.account_id,
            unique_name=template.unique_name,
            description=template.display_text,
            url=template.url or "",
            format=template.format,
            store=task.store.wire,
            max_size_bytes=self.settings.max_template_size_bytes(zone.name),
            checksum=template.checksum,
            source_ca_pem=trusted_pem(
                connection, template.id, zone.id, self.settings.source_ca_pem(zone.name)
            ),
            public=template.public,
            hvm=template.hvm,
            denied_networks=[
                *self.settings.own_networks(),
                *_other_servers(connection, task.store.wire.server),
            ],
            arch=template.arch or "amd64",
            quota_bytes=quota_left(
                connection,
                template,
                zone.id,
                task.ref.agent_name,
                storage_settings.max_account_secondary_storage_gib,
            ),
            rates=TransferRates(
                storage_settings.max_download_bytes_per_s, storage_settings.max_total_download_bytes_per_s
            ),
            access=self.sources.complete(connection, template.id, self.settings.source_access(zone.name)),
        )


def _other_servers(connection: Connection, own: str) -> list[str]:
    """Return the NFS servers of the cloud beside `own`, which fetch denies anyway: the API can add some that
    are in no boot argument yet.
    """
    servers = {store.wire.server for store in zones.list_stores(connection)}
    return sorted(servers - {own, ""})
