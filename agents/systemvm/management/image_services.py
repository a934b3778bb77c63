# SPDX-License-Identifier: Apache-2.0
"""The services for templates and image stores as a group: what downloads, copies, moves and links images."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.control.directory import AgentDirectory
from systemvm.management.foundation import Foundation
from systemvm.management.image_stores.buckets import StoreKeys
from systemvm.management.image_stores.inspection import StoreInspection
from systemvm.management.image_stores.migration import StoreMigration
from systemvm.management.image_stores.object_links import ObjectLinks
from systemvm.management.image_stores.replicas import ReplicaKeeper
from systemvm.management.image_stores.service import ImageStores
from systemvm.management.image_stores.staging import Staging
from systemvm.management.inventory import ZoneSettings
from systemvm.management.templates.copy_links import CopyLinks
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.extraction import Extraction
from systemvm.management.templates.served_usage import ServedUsage
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.store_usage import StoreUsage
from systemvm.management.templates.upload_orders import UploadOrders
from systemvm.management.templates.upload_signing import UploadSigner
from systemvm.management.templates.uploads import TemplateUploads
from systemvm.management.templates.zone_copies import ZoneCopies
from systemvm.rpc.stream.transport import Reactor


@frozen
class ImageServices:
    """The dispatcher, and what gives it work or works beside it."""

    dispatcher: DownloadDispatcher
    replicas: ReplicaKeeper
    extraction: Extraction
    copy_links: CopyLinks
    staging: Staging
    uploads: TemplateUploads
    zone_copies: ZoneCopies
    migrations: StoreMigration
    stores: ImageStores
    inspection: StoreInspection
    object_links: ObjectLinks
    usage: StoreUsage
    upload_orders: UploadOrders
    served: ServedUsage
    sources: TemplateSources

    def start(self) -> None:
        """Resume the downloads and links of an earlier daemon."""
        self.dispatcher.start()
        self.replicas.start()
        self.extraction.start()
        self.copy_links.start()
        self.served.start()

    def stop(self) -> None:
        self.served.stop()
        self.extraction.stop()
        self.copy_links.stop()
        self.replicas.stop()
        self.dispatcher.stop()

    async def agent_up(self, name: str) -> None:
        """Send an SSVM that has connected what it has to do and to serve."""
        self.dispatcher.agent_up(name)
        await self.extraction.agent_up(name)


def make_image_services(
    reactor: Reactor, foundation: Foundation, directory: AgentDirectory, settings: ZoneSettings
) -> ImageServices:
    """Make all parts; nothing runs before `start`."""
    database, seal, sites = foundation.database, foundation.seal, foundation.sites
    usage, sources, signer = (
        StoreUsage(database, directory, settings),
        TemplateSources(seal),
        UploadSigner(seal),
    )
    orders = UploadOrders(signer, settings, (foundation.configuration.management.page.endpoint.origin,))
    links = CopyLinks(
        reactor, database, directory, settings, seal, lambda: foundation.public.roots_pem, sites.root_of
    )
    dispatcher = DownloadDispatcher(reactor, database, directory, settings, sources, orders, usage, links)
    replicas = ReplicaKeeper(reactor, database, settings, dispatcher.wake)
    dispatcher.on_end(links.ended)
    dispatcher.on_end(replicas.changed)  # each end can change how many copies a zone wants
    staging = Staging(reactor, database, settings, dispatcher.wake)
    extraction = Extraction(reactor, database, directory, settings, sites, staging, links.links_of_zone)
    inspection = StoreInspection(database, directory)
    return ImageServices(
        dispatcher=dispatcher,
        replicas=replicas,
        extraction=extraction,
        copy_links=links,
        staging=staging,
        uploads=TemplateUploads(database, directory, dispatcher, usage, settings, sources, signer),
        zone_copies=ZoneCopies(reactor, database, settings, dispatcher.wake),
        migrations=StoreMigration(reactor, database, settings, dispatcher.wake),
        stores=ImageStores(database, directory, settings, replicas.changed, StoreKeys(seal)),
        inspection=inspection,
        object_links=ObjectLinks(database, inspection, extraction, settings),
        usage=usage,
        upload_orders=orders,
        served=ServedUsage(reactor, database, directory),
        sources=sources,
    )
