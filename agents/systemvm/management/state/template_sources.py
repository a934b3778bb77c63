# SPDX-License-Identifier: Apache-2.0
"""How sources of templates are reached: logins, signatures, and the certificates that downloads trust."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows


@frozen
class TemplateSourceRow:
    """What reaches a template's URL besides the URL."""

    id: int
    template_id: int
    username: str | None
    sealed_password: bytes | None = field(repr=False)
    signature_url: str | None = field(repr=False)


@frozen
class SourceCertificate:
    """A CA that downloads of a zone or of one template trust."""

    id: int
    uuid: str
    zone_id: int
    template_id: int | None
    name: str
    hypervisor: str
    pem: str = field(repr=False)
    created: datetime
    removed: datetime | None


source_rows = Rows(schema.template_sources, TemplateSourceRow, "source")
certificate_rows = Rows(schema.source_certificates, SourceCertificate, "certificate")
_c = schema.source_certificates.c


def put_source(connection: sa.Connection, /, template_id: int, **values: Any) -> None:
    source_rows.insert(connection, template_id=template_id, **values)


def source_of(connection: sa.Connection, template_id: int) -> TemplateSourceRow | None:
    return source_rows.one(connection, schema.template_sources.c.template_id == template_id)


def add_certificate(connection: sa.Connection, /, **values: Any) -> SourceCertificate:
    return certificate_rows.insert(connection, **values)


def certificates(connection: sa.Connection, zone_id: int | None = None) -> list[SourceCertificate]:
    """Return certificates that are not revoked, those of one zone or of all."""
    where: list[sa.ColumnElement[bool]] = [_c.removed.is_(None)]
    if zone_id is not None:
        where.append(_c.zone_id == zone_id)
    return certificate_rows.all(connection, *where)


def trusted_by(connection: sa.Connection, template_id: int, zone_id: int) -> list[SourceCertificate]:
    """Return the certificates that a template's download in a zone trusts."""
    own = _c.template_id.is_(None) | (_c.template_id == template_id)
    return certificate_rows.all(connection, _c.removed.is_(None), _c.zone_id == zone_id, own)


def revoke_certificate(connection: sa.Connection, certificate_id: int) -> None:
    certificate_rows.update(connection, certificate_id, removed=now())
