# SPDX-License-Identifier: Apache-2.0
"""Rows for templates that another cloud has put on a store. Their files stay as and where they are."""

from __future__ import annotations

import sqlalchemy as sa
from attrs import field, frozen

from systemvm.management.state import schema, templates
from systemvm.management.state.accounts import Account
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore
from systemvm.wire.storage import DownloadState, ListedTemplate

_r, _t = schema.template_store_refs.c, schema.templates.c


@frozen
class Adoption:
    """What became of the templates of a listing."""

    adopted: list[Template] = field(factory=list)
    known: int = 0
    problems: list[str] = field(factory=list)  # of those that cannot be used


def known_places(connection: sa.Connection, store_id: int) -> set[tuple[int, int]]:
    """Return the numbers of every directory on a store that belongs to a row, also of one to be deleted."""
    query = (
        sa.select(*templates.store_refs.labelled("ref"), *templates.rows.labelled("template"))
        .select_from(schema.template_store_refs.join(schema.templates, _t.id == _r.template_id))
        .where(_r.store_id == store_id, _r.removed.is_(None))
    )
    return {
        templates.place_of(
            templates.store_refs.from_labelled(row, "ref"), templates.rows.from_labelled(row, "template")
        )
        for row in connection.execute(query).mappings()
    }


def forgotten_jobs(connection: sa.Connection, store_id: int, job_ids: set[str]) -> set[str]:
    """Return those of the jobs that published to this store and whose rows are removed."""
    query = sa.select(_r.job_id).where(
        _r.store_id == store_id, _r.job_id.in_(sorted(job_ids)), _r.removed.is_not(None)
    )
    return set(connection.scalars(query))


def adopt(
    connection: sa.Connection, store: ImageStore, listed: list[ListedTemplate], owner: Account
) -> Adoption:
    """Create the rows of all usable templates that none has yet."""
    known = known_places(connection, store.id)
    result = Adoption()
    known_count = 0
    for each in listed:
        if (each.account_id, each.template_id) in known:
            known_count += 1
        elif each.problem or each.format is None:
            what = each.problem or "its properties were not sent"
            result.problems.append(f"{each.account_id}/{each.template_id}: {what}")
        else:
            result.adopted.append(_adopt_one(connection, store, each, owner))
    if listed:
        _skip_numbers(connection, max(each.template_id for each in listed))
    return Adoption(result.adopted, known_count, result.problems)


def _adopt_one(
    connection: sa.Connection, store: ImageStore, listed: ListedTemplate, owner: Account
) -> Template:
    template = templates.rows.one(
        connection, _t.unique_name == listed.unique_name, _t.removed.is_(None), _t.format == listed.format
    )
    if template is None:
        taken = templates.rows.one(connection, _t.unique_name == listed.unique_name) is not None
        name = listed.description or listed.unique_name
        template = templates.rows.insert(
            connection,
            name=name,
            display_text=name,
            unique_name=f"{listed.unique_name}-{new_uuid()}" if taken else listed.unique_name,
            account_id=owner.id,
            domain_id=owner.domain_id,
            zone_id=store.zone_id,
            format=listed.format,
            checksum=None,
            public=listed.public,
            hvm=listed.hvm,
            arch="amd64",
        )
    _add_ref(connection, template, store, listed)
    return template


def _add_ref(
    connection: sa.Connection, template: Template, store: ImageStore, listed: ListedTemplate
) -> StoreRef:
    ref = templates.add_store_ref(connection, template.id, store.id, None)
    path = f"template/tmpl/{listed.account_id}/{listed.template_id}/{listed.file_name}"
    return templates.update_store_ref(
        connection,
        ref.id,
        state=DownloadState.DOWNLOADED,
        percent=100,
        install_path=path,
        physical_size_bytes=listed.size_bytes,
        virtual_size_bytes=listed.virtual_size_bytes,
        checksum=listed.checksum or None,
    )


def _skip_numbers(connection: sa.Connection, highest: int) -> None:
    """Have later templates get numbers above those of the store, so that no two want the same directory."""
    if connection.dialect.name == "sqlite":
        connection.execute(
            sa.text("UPDATE sqlite_sequence SET seq = :highest WHERE name = 'templates' AND seq < :highest"),
            {"highest": highest},
        )
    else:
        connection.execute(
            sa.text(
                "SELECT setval(pg_get_serial_sequence('templates', 'id'),"
                " GREATEST(:highest, (SELECT last_value FROM templates_id_seq)))"
            ),
            {"highest": highest},
        )
