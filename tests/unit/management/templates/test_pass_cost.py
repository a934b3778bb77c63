# SPDX-License-Identifier: Apache-2.0
"""The cost of a pass over downloads in queries does not grow with idle rows."""

from __future__ import annotations

import pytest_twisted
import sqlalchemy as sa

from executed_statements import executed_statements
from small_cloud import SmallCloud
from systemvm.management.state import schema
from systemvm.management.state.columns import new_uuid
from systemvm.wire import storage
from systemvm.wire.storage import (
    MAX_ACTIVE_DOWNLOADS,
)
from template_downloads import (
    DONE,
    register,
    started,
)


def sql_of(statements: list[str]) -> list[str]:
    return [one for one in statements if not one.startswith("BEGIN")]


def add_ready(cloud: SmallCloud, count: int) -> None:
    """Add many Ready templates in one transaction."""

    def fill(connection: sa.Connection) -> None:
        first = (connection.execute(sa.select(sa.func.max(schema.templates.c.id))).scalar() or 0) + 1
        rows, refs = [], []
        for number in range(first, first + count):
            name = f"ready-{number}"
            rows.append({"id": number, "name": name, "unique_name": name, "format": storage.ImageFormat.RAW,
                         "zone_id": cloud.zone.id, "url": "http://x.test/a.raw"})  # fmt: skip
            refs.append({"template_id": number, "store_id": cloud.store.id, "job_id": new_uuid(),
                         "state": DONE, "agent_name": cloud.ssvm.instance_name})  # fmt: skip
        connection.execute(schema.templates.insert(), rows)
        connection.execute(schema.template_store_refs.insert(), refs)

    cloud.database.run_now(fill)


@pytest_twisted.ensureDeferred
async def test_cost_of_an_idle_pass_does_not_depend_on_ready_templates(cloud: SmallCloud) -> None:
    costs = []
    for count in (0, 3000):
        add_ready(cloud, count) if count else None
        with executed_statements(cloud.database.engine) as statements:
            await cloud.dispatch.reconcile()
        costs.append(len(sql_of(statements)))
    assert costs[0] == costs[1] <= 5


@pytest_twisted.ensureDeferred
async def test_an_idle_pass_reads_no_ready_row(cloud: SmallCloud) -> None:
    """SQLite's query plan names each table that is read without an index."""
    add_ready(cloud, 300)
    with executed_statements(cloud.database.engine) as statements:
        await cloud.dispatch.reconcile()
    plans: list[str] = []

    def explain(connection: sa.Connection) -> None:
        for statement in sql_of(statements):
            count = statement.count("?")
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (None,) * count)
            plans.extend(str(row[-1]) for row in rows)

    cloud.database.run_now(explain)
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN template")]


@pytest_twisted.ensureDeferred
async def test_waiting_tasks_cost_no_query_each(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    register(cloud, cloud.admin.account.id, 200)
    await cloud.dispatch.reconcile()
    await cloud.dispatch.reconcile()
    with executed_statements(cloud.database.engine) as statements:
        await cloud.dispatch.reconcile()
    assert len(sql_of(statements)) <= 6
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)) == MAX_ACTIVE_DOWNLOADS


@pytest_twisted.ensureDeferred
async def test_reconciling_a_store_reads_its_templates_at_once(cloud: SmallCloud) -> None:
    from systemvm.management.state import pending_work

    add_ready(cloud, 500)
    with executed_statements(cloud.database.engine) as statements:
        found = cloud.database.run_now(pending_work.ready_on, cloud.store.id)
    assert (len(found), len(sql_of(statements))) == (500, 1)
