# SPDX-License-Identifier: Apache-2.0
"""A row that is read again unchanged is the same object, and one that has changed is not."""

from __future__ import annotations

from systemvm.management.state import events, schema, template_list, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.events import Event
from systemvm.management.state.rows import one_of
from systemvm.management.state.same_rows import SameRows
from systemvm.management.state.template_list import TemplateCopy, TemplateFilter, Visibility
from systemvm.management.state.templates import StoreRef, Template
from systemvm.wire.storage import DownloadState, ImageFormat


class Read:
    """Events that are read by their numbers."""

    def __init__(self, most: int) -> None:
        self._query = SameRows(events.rows, most).prepared(
            schema.events.c.id.in_(one_of("ids")), order_by=[schema.events.c.id]
        )

    def __call__(self, database: Database, *ids: int) -> list[Event]:
        return database._read_now(lambda connection: self._query.all(connection, ids=list(ids)))


def test_a_row_is_the_same_object_until_it_changes(database: Database) -> None:
    first, second = (database.run_now(events.record, "A", name) for name in ("one", "two"))
    read = Read(10)
    before = read(database, first.id, second.id)
    assert before == [first, second]
    database.run_now(events.rows.update, second.id, level="WARN")
    after = read(database, first.id, second.id)
    assert after[0] is before[0]
    assert (before[1].level, after[1].level) == ("INFO", "WARN")


def test_the_number_of_rows_is_limited(database: Database) -> None:
    recorded = [database.run_now(events.record, "A", str(number)) for number in range(3)]
    read = Read(2)
    ids = [event.id for event in recorded]
    [first] = read(database, ids[0])
    assert read(database, *ids) == recorded
    assert read(database, ids[0])[0] is not first


def test_values_of_all_types_are_those_of_other_queries(database: Database) -> None:
    def register(connection: Connection) -> tuple[Template, StoreRef]:
        [zone] = zones.list_zones(connection)
        store = zones.add_store(connection, zone_id=zone.id, name="store", url="nfs://203.0.113.20/secondary")
        return templates.register(
            connection, name="Debian", account_id=1, store_id=store.id, zone_id=zone.id,
            format=ImageFormat.QCOW2, details={"rootDiskController": "virtio"}, featured=True,
        )  # fmt: skip

    def copies(connection: Connection) -> list[TemplateCopy]:
        which = TemplateFilter(False, Visibility.ALL, 1, None)
        return template_list.page(connection, which, slice(0, 20))[0]

    template, ref = database.run_now(register)
    [copy] = database._read_now(copies)
    assert (copy.template, list(copy.refs)) == (template, [ref])
    state = DownloadState.DOWNLOAD_IN_PROGRESS
    changed = database.run_now(templates.update_store_ref, ref.id, percent=40, state=state)
    [later] = database._read_now(copies)
    assert later.template is copy.template
    assert list(later.refs) == [changed]
