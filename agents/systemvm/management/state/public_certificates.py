# SPDX-License-Identifier: Apache-2.0
"""Certificates for the public side of system VMs: one of each domain and source is in use."""

from __future__ import annotations

import enum
from datetime import datetime

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema
from systemvm.management.state.columns import now
from systemvm.management.state.rows import Rows

#: The name that CloudStack gives to the one with a key, whatever its client says.
SERVER_NAME = "CPVMCertificate"


class Source(enum.Enum):
    """Where a certificate came from."""

    UPLOAD = "upload"
    ACME = "acme"
    CHAIN = "chain"  # a part of a chain, without a key


@frozen
class PublicCertificateRow:
    id: int
    uuid: str
    created: datetime
    removed: datetime | None
    name: str
    domain_suffix: str
    sequence: int | None
    source: str
    pem: str = field(repr=False)
    root_pem: str | None = field(repr=False)
    sealed_key: bytes | None = field(repr=False)
    not_after: datetime
    warned: datetime | None


rows = Rows(schema.public_certificates, PublicCertificateRow, "certificate")
_c = schema.public_certificates.c


def servers(connection: sa.Connection) -> list[PublicCertificateRow]:
    """Return those with a key that are not removed, the newest first."""
    return rows.all(connection, _c.removed.is_(None), _c.sealed_key.is_not(None), order_by=[_c.id.desc()])


def current(connection: sa.Connection) -> list[PublicCertificateRow]:
    """Return all that are not removed, parts of chains included, by domain."""
    return rows.all(connection, _c.removed.is_(None), order_by=[_c.domain_suffix, _c.sequence, _c.id])


def parts(connection: sa.Connection, domain_suffix: str) -> list[PublicCertificateRow]:
    """Return the parts of chains of a domain by their number."""
    of_domain = (_c.removed.is_(None), _c.sealed_key.is_(None), _c.domain_suffix == domain_suffix)
    return rows.all(connection, *of_domain, order_by=[_c.sequence, _c.id])


def put(
    connection: sa.Connection,
    *,
    source: Source,
    domain_suffix: str,
    pem: str,
    not_after: datetime,
    name: str = SERVER_NAME,
    sequence: int | None = None,
    root_pem: str | None = None,
    sealed_key: bytes | None = None,
) -> tuple[PublicCertificateRow, PublicCertificateRow | None]:
    """Add one in place of that with the same domain, source and name; return both."""
    same = (_c.domain_suffix == domain_suffix, _c.source == source.value, _c.name == name)
    before = rows.one(connection, _c.removed.is_(None), *same)
    if before is not None:
        rows.update(connection, before.id, removed=now())
    added = rows.insert(
        connection,
        name=name,
        domain_suffix=domain_suffix,
        sequence=sequence,
        source=source.value,
        pem=pem,
        root_pem=root_pem,
        sealed_key=sealed_key,
        not_after=not_after,
    )
    return added, before


def swap(connection: sa.Connection, out_id: int | None, in_id: int | None) -> None:
    """Remove a row with its key kept, and use another one again."""
    if out_id is not None:
        rows.update(connection, out_id, removed=now())
    if in_id is not None:
        rows.update(connection, in_id, removed=None)


def forget_replaced_keys(connection: sa.Connection) -> None:
    """Delete the keys of certificates that nobody uses any more."""
    rows.update_where(connection, _c.removed.is_not(None), _c.sealed_key.is_not(None), sealed_key=None)


def remove_domain(connection: sa.Connection, domain_suffix: str) -> int:
    """Remove every certificate of a domain, parts and keys included; return how many."""
    of_domain = (_c.domain_suffix == domain_suffix, _c.removed.is_(None))
    return rows.update_where(connection, *of_domain, removed=now(), sealed_key=None)
