# SPDX-License-Identifier: Apache-2.0
"""No list of the API reads or sorts a whole large table for a page, by the plans that SQLite makes.

Without figures of ANALYZE, which the daemon never runs, SQLite takes every table for a large one.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest_twisted
import sqlalchemy as sa
from attrs import define, field

from fuzz.api_calls import plain_call
from fuzz.api_world import FuzzedCloud, populate
from small_cloud import SmallCloud
from systemvm.management.api.command import Command, ResponseShape
from systemvm.management.api.principal import Principal
from systemvm.management.state.database import Connection
from systemvm.rpc.core.errors import RpcError

#: Tables that grow with the users' work; accounts, domains and zones are kept in memory (owner_names.py).
LARGE = frozenset(
    (
        *("templates", "template_store_refs", "vm_instances", "nics", "volumes", "snapshots"),
        *("snapshot_policies", "events", "async_jobs", "resource_tags", "users", "api_keys"),
        "entity_annotations",
        *("console_sessions", "console_recordings", "alert_deliveries", "logins"),
    )
)
#: Lists that cost more than their answer, and why.
EXEMPT = {
    "listAccountUsage": "sums what all accounts use",
    "listAlerts": "sorts the alerts, but reads no other events",
    "listCapacity": "sums what all machines use",
    "listUsageRecords": "counts what existed in a period, of every type",
    "listSystemVms": "sorts the system VMs, which are few, but reads no others",
}
_TABLE = re.compile(r"^(?:SCAN|SEARCH) (\w+)")
_AUTOMATIC = "AUTOMATIC"
_SORT = re.compile(r"USE TEMP B-TREE FOR")
#: Templates are ordered by their number, and those of one number by their zones, which are few.
_SORT_OF_ZONES = re.compile(r"USE TEMP B-TREE FOR (RIGHT PART|LAST)")
#: Filters of long lists, each in the order of the list and in that of its own key.
FURTHER: dict[str, tuple[dict[str, str], ...]] = {
    "listEvents": (
        {"startdate": "2026-01-01", "enddate": "2026-01-31"},
        *(
            {key: value, **order}
            for key, value in (("level", "ERROR"), ("type", "VM.START"))
            for order in ({}, {"sortby": "created", "sortorder": "asc"}, {"sortby": key, "sortorder": "desc"})
        ),
    ),
    "listVirtualMachines": ({"state": "Running"},),
}


@define
class Plans:
    """The queries that were executed, to be explained later."""

    queries: list[tuple[str, Any]] = field(factory=list)

    def note(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> None:
        if statement.startswith(("SELECT", "WITH")):
            self.queries.append((statement, parameters))

    def faults(self, connection: Connection, *, sees_all: bool) -> list[str]:
        found = []
        for statement, parameters in self.queries:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan = [str(row[-1]) for row in rows]
            if not _is_sound(statement, plan, sees_all=sees_all):
                found.append(f"{'; '.join(plan)}\n    {statement[statement.index('FROM') :][:300]}")
        return found


def _is_sound(statement: str, plan: list[str], *, sees_all: bool) -> bool:
    """Return whether a plan costs what its answer has, and not what its tables have.

    A scan in the order of the list ends with the page. The count of all rows is kept until it changes.
    """
    on_large = [step for step in plan if (found := _TABLE.match(step)) and found[1] in LARGE]
    stops = "LIMIT" in statement
    is_count_of_all = "count(" in statement and sees_all
    is_scanned = any(step.startswith("SCAN") for step in on_large) and not stops and not is_count_of_all
    is_indexed_for_itself = any(_AUTOMATIC in step for step in on_large)
    is_of_zones = any(_TABLE.match(step) and " zones" in step for step in plan)
    is_sorted = (
        bool(on_large)
        and stops
        and any(_SORT.match(step) and not (is_of_zones and _SORT_OF_ZONES.match(step)) for step in plan)
    )
    return not (is_scanned or is_indexed_for_itself or is_sorted)


def lists(cloud: SmallCloud, who: Principal) -> list[Command]:
    return [
        command
        for command in cloud.table
        if command.name.startswith("list")
        and command.shape is ResponseShape.LIST
        and who.account_type in command.roles
        and command.name not in EXEMPT
    ]


async def faults_of(world: FuzzedCloud, who: Principal) -> list[str]:
    cloud, found = world.cloud, []
    for command in lists(cloud, who):
        call = plain_call(command, world)
        if command.paged:
            call |= {"page": "1", "pagesize": "20"}
        if "templatefilter" in call:
            call["templatefilter"] = "all" if who.is_admin else "self"
        if any(parameter.name == "listall" for parameter in command.parameters):
            call["listall"] = "true"
        plans = Plans()
        sa.event.listen(cloud.database.engine, "before_cursor_execute", plans.note)
        try:
            for more in ({}, *FURTHER.get(command.name, ())):
                with suppress(RpcError):  # of an agent that is not there, after the reads
                    await cloud.call(command.name, who, **call | more)
        finally:
            sa.event.remove(cloud.database.engine, "before_cursor_execute", plans.note)
        assert plans.queries or not command.kept
        found += [
            f"{who.account.name} {command.name}: {fault}"
            for fault in cloud.database.run_now(plans.faults, sees_all=who.is_admin)
        ]
    return found


@pytest_twisted.ensureDeferred
async def test_no_page_costs_what_its_table_has(cloud: SmallCloud) -> None:
    world = await populate(cloud)
    found = await faults_of(world, cloud.admin) + await faults_of(world, world.user)
    assert not found, "\n".join(found)


@pytest_twisted.ensureDeferred
async def test_a_list_without_its_index_is_found(cloud: SmallCloud) -> None:
    world = await populate(cloud)
    cloud.database.run_now(lambda connection: connection.exec_driver_sql("DROP INDEX ix_templates_format"))
    assert any("listIsos" in fault for fault in await faults_of(world, cloud.admin))
