# SPDX-License-Identifier: Apache-2.0
"""Links to templates: their rows, and what an SSVM must know to serve them."""

from __future__ import annotations

import uuid
from datetime import timedelta

from attrs import frozen

from systemvm.management.state import events, extract_links, store_buckets, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.extract_links import ExtractLinkRow
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates.extraction_errors import ExtractionError
from systemvm.management.templates.public_servers import PublicServer
from systemvm.wire.extract import ExtractLink, link_file_name
from systemvm.wire.storage import PublishedFile


@frozen
class TemplateInBucket:
    """The Ready copy of a template when it is in a bucket."""

    store: ImageStore
    file: PublishedFile
    has_public_links: bool


def in_bucket(connection: Connection, template_id: int, zone_id: int) -> TemplateInBucket | None:
    """Return the Ready copy that is taken, if it is in a bucket."""
    ref = templates.store_ref_of(connection, template_id, zone_id)
    file = None if ref is None or not ref.is_ready else templates.file_of(ref)
    if ref is None or file is None:
        return None
    store = zones.store_by_id(connection, ref.store_id)
    bucket = store_buckets.of_store(connection, store.id) if store.is_bucket else None
    return None if bucket is None else TemplateInBucket(store, file, bucket.has_public_links)


def find_or_create_row(
    connection: Connection,
    template_id: int,
    zone_id: int,
    servers: list[PublicServer],
    lifetime: timedelta,
    request_id: str,
) -> ExtractLinkRow:
    """Return a valid link to one of these servers; without one, record a new one to the first."""
    extract_links.delete_expired(connection)
    origins = [server.endpoint.url for server in servers]
    for row in extract_links.live_of_template(connection, template_id, zone_id):
        if row.origin in origins:
            return row
    return create_row(connection, template_id, zone_id, origins[0], lifetime, request_id)


def create_row(
    connection: Connection,
    template_id: int,
    zone_id: int,
    origin: str,
    lifetime: timedelta,
    request_id: str,
) -> ExtractLinkRow:
    """Record a link to a server, and the event."""
    template = templates.by_id(connection, template_id)
    row = extract_links.create(
        connection,
        account_id=template.account_id,
        domain_id=template.domain_id,
        template_id=template_id,
        zone_id=zone_id,
        secret=str(uuid.uuid4()),
        origin=origin,
        file_name=link_file_name(template.name, template.format.extension),
        expires=now() + lifetime,
    )
    if template.type == templates.EXPORT:
        return row  # whoever has ordered it records what it is of
    events.record(
        connection,
        "ISO.EXTRACT" if template.is_iso else "TEMPLATE.EXTRACT",
        f"{template.name} can be downloaded by a link until {row.expires:%Y-%m-%d %H:%M} UTC",
        account_id=template.account_id,
        domain_id=template.domain_id,
        resource_type="Iso" if template.is_iso else "Template",
        resource_uuid=template.uuid,
        request_id=request_id,
    )
    return row


def wire_link(connection: Connection, row: ExtractLinkRow) -> ExtractLink:
    """Return a link with the store that has the template now.

    Raises: ExtractionError when none has it.
    """
    template = templates.by_id(connection, row.template_id)
    link = _with_store(connection, row, template)
    if link is None:
        raise ExtractionError(f"{template.name} is not on a store of the zone", "wait until it is Ready")
    return link


def wire_links_of_zone(connection: Connection, zone_id: int) -> list[ExtractLink]:
    """Return the valid links of a zone to templates that are Ready on a store with files."""
    found = []
    for row in extract_links.live_of_zone(connection, zone_id):
        link = _with_store(connection, row, templates.by_id(connection, row.template_id))
        if link is not None:
            found.append(link)
    return found


def _with_store(connection: Connection, row: ExtractLinkRow, template: Template) -> ExtractLink | None:
    ref = templates.store_ref_of(connection, template.id, row.zone_id)
    if ref is None or not ref.is_ready:
        return None
    store = zones.store_rows.by_id(connection, ref.store_id)
    if store.is_bucket:  # its own server serves it
        return None
    account_id, number = templates.place_of(ref, template)
    expires, owner_id = row.expires.timestamp(), row.account_id
    place = (store.wire, account_id, number)
    return ExtractLink(row.secret, row.file_name, *place, expires, owner_id=owner_id)
