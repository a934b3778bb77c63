# SPDX-License-Identifier: Apache-2.0
"""Pages far down a list: the same rows as of the whole list, without a read of those before."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from systemvm.management.state import events, listing, schema, template_list, templates, zones
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.keyset import Keyset
from systemvm.management.state.listing import ROWS_BETWEEN_STARTS, Listing, Order
from systemvm.management.state.template_list import TemplateFilter, Visibility
from systemvm.management.state.topics import columns
from systemvm.wire.storage import ImageFormat

ALL = TemplateFilter(False, Visibility.ALL, 1, None)
_t = schema.templates.c


def add_templates(connection: Connection, number: int, zone_id: int | None) -> None:
    connection.execute(
        schema.templates.insert(),
        [
            {"name": f"Template {n % 7}", "unique_name": new_uuid(), "zone_id": zone_id,
             "format": ImageFormat.QCOW2}
            for n in range(number)
        ],
    )  # fmt: skip


def add_templates_of_three_zones(connection: Connection) -> None:
    """Add templates of one zone, of all zones, and with a copy in a second one."""
    first = zones.list_zones(connection)[0].id
    others = [zones.put_zone(connection, name, arch="amd64", dns=["203.0.113.10"]).id for name in "ab"]
    add_templates(connection, 9, first)
    add_templates(connection, 5, None)
    add_templates(connection, 4, others[0])
    store = zones.add_store(connection, zone_id=others[1], name="s", url="nfs://203.0.113.20/secondary")
    for template in templates.list_all(connection)[::3]:
        templates.add_store_ref(connection, template.id, store.id, None)


def rows(database: Database, order: Order | None, window: slice) -> list[tuple[int, int | None]]:
    def read(connection: Connection) -> list[tuple[int, int | None]]:
        found, _ = template_list.page(connection, ALL, window, order)
        return [(copy.template.id, copy.zone_id) for copy in found]

    return database._read_now(read)


@pytest.mark.parametrize(
    "order", [None, *(Order(key, down) for key in ("name", "created") for down in (False, True))]
)
@pytest.mark.parametrize("between", [1, 2, 5])
def test_pages_are_slices_of_the_whole_list(
    database: Database, monkeypatch: pytest.MonkeyPatch, order: Order | None, between: int
) -> None:
    monkeypatch.setattr(listing, "ROWS_BETWEEN_STARTS", between)
    database.run_now(add_templates_of_three_zones)
    whole = rows(database, order, slice(None))
    assert len(whole) == len(set(whole)) > 25
    for first in reversed(range(len(whole) + 2 * between)):
        assert rows(database, order, slice(first, first + 3)) == whole[first : first + 3]


@pytest.mark.parametrize("order", [None, Order("name"), Order("name", descending=True)])
def test_pages_follow_changes_of_rows_before_them(
    database: Database, monkeypatch: pytest.MonkeyPatch, order: Order | None
) -> None:
    monkeypatch.setattr(listing, "ROWS_BETWEEN_STARTS", 2)
    database.run_now(add_templates_of_three_zones)
    third, *_, last = (number for number, _ in rows(database, None, slice(None))[4:])

    def change(connection: Connection) -> None:
        match next(step):
            case 1:
                templates.update(connection, last, name="A first one")
            case 2:
                templates.remove(connection, third)
            case 3:
                add_templates(connection, 2, None)

    step = count()
    for _ in range(4):
        database.run_now(change)
        whole = rows(database, order, slice(None))
        for first in range(len(whole)):
            assert rows(database, order, slice(first, first + 3)) == whole[first : first + 3]


def test_pages_of_events_follow_new_ones(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ROWS_BETWEEN_STARTS", 2)
    which = events.EventFilter()
    for number in range(20):
        database.run_now(events.record, "A", str(number))
        found, total = database._read_now(events.page, which, slice(5, 8))
        assert total == number + 1
        assert [int(event.description) for event in found] == [*range(number, -1, -1)][5:8]


def test_a_page_is_read_without_the_rows_before_it(database: Database) -> None:
    """SQLite's virtual machine counts its steps: they must not grow with the number of the page."""
    zone_id = database._read_now(zones.list_zones)[0].id
    database.run_now(add_templates, 10 * ROWS_BETWEEN_STARTS, zone_id)
    listed = Listing("templates", sa.select(_t.id, _t.name), [_t.removed.is_(None)], [_t.id], ("templates",))

    def steps(first: int) -> int:
        def read(connection: Connection) -> int:
            made = count()
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: next(made) and 0, 1)
            found = listed.read(connection, slice(first, first + 20))
            driver.set_progress_handler(None, 0)
            assert len(found) == 20
            return next(made)

        return database._read_now(read)

    last = 10 * ROWS_BETWEEN_STARTS - 20
    assert steps(last) > 5 * steps(0)  # looks for where to begin
    assert steps(last) < 2 * steps(ROWS_BETWEEN_STARTS - 20)


def test_pages_follow_a_change_of_what_orders_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The length of a list need not depend on it."""
    monkeypatch.setattr(listing, "ROWS_BETWEEN_STARTS", 2)
    database.run_now(add_templates, 6, None)
    names = sa.select(_t.name)
    listed = Listing("templates", names, [], [sa.func.lower(_t.name), _t.id], columns(schema.templates))
    assert database._read_now(listed.read, slice(2, 3)) == [("Template 2",)]
    database.run_now(templates.update, 6, name="A first one")
    assert database._read_now(listed.read, slice(2, 3)) == [("Template 1",)]


@pytest.mark.parametrize(
    "nullable", [_t.url, sa.func.lower(_t.checksum), _t.zone_id.desc(), _t.id != _t.zone_id]
)
def test_what_can_be_null_is_no_keyset(nullable: sa.ColumnElement[Any]) -> None:
    assert Keyset.of([_t.id]) is not None
    assert Keyset.of([nullable, _t.id]) is None


def test_a_list_ordered_by_what_can_be_null_has_the_same_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "ROWS_BETWEEN_STARTS", 2)
    database.run_now(add_templates_of_three_zones)
    for order_by in ([_t.zone_id, _t.id], [_t.zone_id.desc(), _t.id.desc()]):
        listed = Listing("templates", sa.select(_t.id), [], order_by, ("templates",))
        whole = database._read_now(listed.read, slice(None))
        for first in range(len(whole)):
            assert database._read_now(listed.read, slice(first, first + 3)) == whole[first : first + 3]
