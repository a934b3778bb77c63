# SPDX-License-Identifier: Apache-2.0
"""Lists that their caller orders: in both directions, page by page, and by an index where rows are many."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa

from small_cloud import SmallCloud
from systemvm.management.api.command import ResponseShape
from systemvm.management.api.errors import ApiError
from systemvm.management.state import accounts, events, guest_networks, instances, listing
from systemvm.management.state.accounts import Account
from systemvm.management.state.database import Connection
from systemvm.management.state.status import GuestType, InstanceType

#: What a list needs besides its order.
NEEDED = {
    "listTemplates": {"templatefilter": "all"},
    "listIsos": {"isofilter": "all"},
    "listUsers": {"listall": "true"},
}
#: What is measured anew for each answer.
MEASURED = "disksizeused"
#: Lists whose rows can be so many that none is to be sorted for one page, and their key with most values.
LONG = {
    "listTemplates": ("name",),
    "listVirtualMachines": ("name",),
    "listEvents": ("created", "type", "level"),
}


def add_rows(cloud: SmallCloud) -> None:
    for number, name in enumerate(("beta", "Alpha", "gamma", "alpha", "Beta")):
        cloud.add_template(name=name)
        cloud.database.run_now(
            instances.create,
            InstanceType.USER,
            name=name,
            zone_id=cloud.zone.id,
            account_id=cloud.admin.account.id,
        )
        cloud.database.run_now(events.record, f"T{number % 2}", name, level=("INFO", "ERROR")[number % 2])
        kind = ("SSVM.STOP", "HOST.ALERT", "ALERT.CA.CERT")[number % 3]
        cloud.database.run_now(events.record, kind, f"alert {name}", level="ERROR")
        cloud.database.run_now(_add_a_user, name, cloud.user.account if number % 2 else cloud.admin.account)
        cloud.database.run_now(_add_a_network, cloud, name, number)


def _add_a_user(connection: Connection, name: str, account: Account) -> None:
    user = accounts.create_user(connection, f"{name}{account.id}", account, None)
    if name == "gamma":
        accounts.update_user(connection, user.id, state="disabled")


def _add_a_network(connection: Connection, cloud: SmallCloud, name: str, number: int) -> None:
    guest_networks.rows.insert(
        connection,
        zone_id=cloud.zone.id,
        name=name,
        display_text=name,
        guest_type=(GuestType.ISOLATED, GuestType.L2)[number % 2],
        account_id=cloud.admin.account.id,
    )


@pytest.mark.parametrize("rows_between_starts", [2, listing.ROWS_BETWEEN_STARTS])
@pytest_twisted.ensureDeferred
async def test_every_list_is_ordered_by_each_of_its_keys_and_pages_of_it_are_the_list(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, rows_between_starts: int
) -> None:
    monkeypatch.setattr(listing, "ROWS_BETWEEN_STARTS", rows_between_starts)
    add_rows(cloud)
    ordered = [each for each in cloud.table if each.shape is ResponseShape.LIST and each.sortable]
    others = {"listVolumes", "listSnapshots", "listAccounts", "listHosts", "listConfigurations"}
    others |= {"listUsers", "listNetworks", "listStoragePools", "listAlerts"}
    assert {each.name for each in ordered} >= {*LONG, *others}
    for command in ordered:
        for key in command.sortable:
            for direction in ("asc", "desc"):
                wanted = {"sortby": key, "sortorder": direction, **NEEDED.get(command.name, {})}
                whole = _rows(await cloud.call(command.name, **wanted), command.object_name)
                values = [_key(row.get(key)) for row in whole]
                assert values == sorted(values, reverse=direction == "desc"), (command.name, wanted)
                pages: list[Any] = []
                for number in range(1, len(whole) + 1):
                    page = await cloud.call(command.name, **wanted, page=number, pagesize=1)
                    pages += _rows(page, command.object_name)
                assert pages == whole, (command.name, wanted)


def _rows(answer: dict[str, Any], object_name: str) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key != MEASURED} for row in answer.get(object_name, [])]


def _key(value: Any) -> tuple[bool, Any]:
    return value is not None, value.lower() if isinstance(value, str) else value


@pytest_twisted.ensureDeferred
async def test_the_same_rows_follow_in_the_other_direction(cloud: SmallCloud) -> None:
    add_rows(cloud)

    async def names(direction: str) -> list[str]:
        answer = await cloud.call("listVirtualMachines", sortby="name", sortorder=direction)
        return [row["name"] for row in answer["virtualmachine"]]

    assert await names("asc") == ["Alpha", "alpha", "beta", "Beta", "gamma"]
    assert await names("desc") == [*reversed(await names("asc"))]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "wanted",
    [
        {"sortby": "uuid"},
        {"sortby": "name; DROP TABLE events"},
        {"sortorder": "asc"},
        {"sortby": "name", "sortorder": "up"},
    ],
)
async def test_an_order_that_a_list_does_not_have_is_refused(
    cloud: SmallCloud, wanted: dict[str, str]
) -> None:
    with pytest.raises(ApiError) as refused:
        await cloud.call("listVirtualMachines", **wanted)
    assert refused.value.code == 431


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_a_page_of_a_long_list_is_read_by_an_index(cloud: SmallCloud, direction: str) -> None:
    add_rows(cloud)
    engine = cloud.database.engine
    queries: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, given: Any, *_more: Any) -> None:
        queries.append((statement, given))

    sa.event.listen(engine, "before_cursor_execute", note)
    for name, keys in LONG.items():
        for key in keys:
            queries.clear()
            wanted = {"sortby": key, "sortorder": direction, **NEEDED.get(name, {})}
            await cloud.call(name, **wanted, listall="true", page=2, pagesize=2)
            [(page, given)] = [query for query in queries if "LIMIT" in query[0]]
            with engine.connect() as connection:
                plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {page}", given)]
            sorts = [step for step in plan if "TEMP B-TREE" in step]
            if name == "listTemplates":  # the zones of one template, which are few, are sorted
                sorts = [step for step in sorts if "RIGHT PART" not in step]
            assert not sorts, (name, key, plan)


@pytest_twisted.ensureDeferred
async def test_a_page_of_networks_costs_the_same_among_many(cloud: SmallCloud) -> None:
    add_rows(cloud)
    queries: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        queries.append(statement)

    async def cost() -> int:
        queries.clear()
        await cloud.call("listNetworks", sortby="name", sortorder="desc", page=1, pagesize=3)
        return len(queries)

    sa.event.listen(cloud.database.engine, "before_cursor_execute", note)
    await cost()  # names are kept from now on
    among_few = await cost()
    for number in range(50):
        cloud.database.run_now(_add_a_network, cloud, f"Aaa {number}", number)
    assert await cost() == among_few
