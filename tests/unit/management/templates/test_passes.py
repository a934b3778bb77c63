# SPDX-License-Identifier: Apache-2.0
"""Passes over downloads: what they cost, whom they ask, and that a slow SSVM is nobody else's trouble."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred

from settling import settled
from small_cloud import SmallCloud
from small_cloud_fakes import FakePeer
from systemvm.management.state import accounts, schema, templates, zones
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.status import AccountType, InstanceType
from systemvm.management.templates.ssvm_calls import RETRY_LAST_S, STATUS_VALID_S, Lane
from systemvm.management.templates.wait_reason import WaitReason
from systemvm.rpc.core.errors import BUSY, DEADLINE, RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    MAX_ACTIVE_DOWNLOADS,
    MAX_DOWNLOADS,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
)

WAITING, PROGRESS, READY = (
    DownloadState.NOT_DOWNLOADED,
    DownloadState.DOWNLOAD_IN_PROGRESS,
    DownloadState.DOWNLOADED,
)


def started(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(request.job_id, PROGRESS, received_bytes=0, total_bytes=1000)


def ended(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(request.job_id, READY, received_bytes=1, total_bytes=1)


class HangingPeer(FakePeer):
    """An agent that answers on `release`; `most` is the highest number of waiting calls."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[None]] = []
        self.most = 0

    async def call(self, method: str, params: Any = None, **more: Any) -> Any:
        if method == storage.STORAGE_STATS:
            return await super().call(method, params, **more)
        released: Deferred[None] = Deferred()
        self.waiting.append(released)
        self.most = max(self.most, len(self.waiting))
        await released
        return await super().call(method, params, **more)

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)


@contextmanager
def counted(cloud: SmallCloud) -> Iterator[list[str]]:
    """Collect the statements that are executed."""
    statements: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    sa.event.listen(cloud.database.engine, "after_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(cloud.database.engine, "after_cursor_execute", note)


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
                         "state": READY, "agent_name": cloud.ssvm.instance_name})  # fmt: skip
        connection.execute(schema.templates.insert(), rows)
        connection.execute(schema.template_store_refs.insert(), refs)

    cloud.database.run_now(fill)


def add_account(cloud: SmallCloud, name: str) -> int:
    return cloud.database.run_now(lambda c: accounts.create_account(c, name, AccountType.USER, 1).id)


def register(cloud: SmallCloud, account_id: int, count: int, store_id: int | None = None) -> None:
    def fill(connection: sa.Connection) -> None:
        for number in range(count):
            templates.register(
                connection, name=f"a{account_id}-{number}", account_id=account_id,
                store_id=store_id or cloud.store.id,
                zone_id=cloud.zone.id, format=storage.ImageFormat.RAW, url="http://x.test/a.raw",
            )  # fmt: skip

    cloud.database.run_now(fill)


def another_store(cloud: SmallCloud) -> int:
    def add(connection: sa.Connection) -> int:
        return zones.put_store(
            connection, "b", zone_id=cloud.zone.id, url="nfs://10.12.0.3/b", host_path=None, nfs_version="4.2"
        ).id

    return cloud.database.run_now(add)


def refs_of(cloud: SmallCloud) -> list[templates.StoreRef]:
    return cloud.database.run_now(templates.store_refs.all)


def second_ssvm(cloud: SmallCloud, peer: FakePeer) -> str:
    name = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE).instance_name
    cloud.agents.peers[name] = (Role.SSVM, peer)
    return name


# --- what a pass costs


@pytest_twisted.ensureDeferred
async def test_an_idle_pass_costs_the_same_whatever_is_ready(cloud: SmallCloud) -> None:
    costs = []
    for count in (0, 3000):
        add_ready(cloud, count) if count else None
        with counted(cloud) as statements:
            await cloud.dispatch.reconcile()
        costs.append(len(sql_of(statements)))
    assert costs[0] == costs[1] <= 5


@pytest_twisted.ensureDeferred
async def test_an_idle_pass_reads_no_ready_row(cloud: SmallCloud) -> None:
    """SQLite's query plan names each table that is read without an index."""
    add_ready(cloud, 300)
    with counted(cloud) as statements:
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
    with counted(cloud) as statements:
        await cloud.dispatch.reconcile()
    assert len(sql_of(statements)) <= 6
    assert len(cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)) == MAX_ACTIVE_DOWNLOADS


@pytest_twisted.ensureDeferred
async def test_reconciling_a_store_reads_its_templates_at_once(cloud: SmallCloud) -> None:
    from systemvm.management.state import pending_work

    add_ready(cloud, 500)
    with counted(cloud) as statements:
        found = cloud.database.run_now(pending_work.ready_on, cloud.store.id)
    assert (len(found), len(sql_of(statements))) == (500, 1)


# --- who is asked


@pytest_twisted.ensureDeferred
async def test_hung_ssvm_does_not_block_others(cloud: SmallCloud) -> None:
    hung, quick = HangingPeer(), FakePeer()
    hung.answers[storage.TEMPLATE_DOWNLOAD] = started
    quick.answers[storage.TEMPLATE_DOWNLOAD] = started
    cloud.agents.peers[cloud.ssvm.instance_name] = (Role.SSVM, hung)
    second_ssvm(cloud, quick)
    register(cloud, cloud.admin.account.id, 2)
    cloud.dispatch.start()
    await settled(cloud.database)
    assert len(quick.calls) == 1 and len(hung.waiting) == 1
    register(cloud, cloud.user.account.id, 4)
    cloud.dispatch.wake()
    await settled(cloud.database)
    assert len(quick.params_of(storage.TEMPLATE_DOWNLOAD)) == 3
    assert hung.most <= Lane.DOWNLOAD.max_calls
    cloud.dispatch.stop()
    hung.release()
    await settled(cloud.database)
    assert all(ref.state is PROGRESS for ref in refs_of(cloud))


@pytest_twisted.ensureDeferred
async def test_a_call_that_still_runs_is_never_repeated(cloud: SmallCloud) -> None:
    hung = HangingPeer()
    hung.answers[storage.TEMPLATE_DOWNLOAD] = started
    cloud.agents.peers[cloud.ssvm.instance_name] = (Role.SSVM, hung)
    register(cloud, cloud.admin.account.id, 20)
    cloud.dispatch.start()
    await settled(cloud.database)
    assert len(hung.waiting) == Lane.DOWNLOAD.max_calls
    for _ in range(10):
        cloud.dispatch.wake()
        cloud.clock.advance(STATUS_VALID_S)
        await settled(cloud.database)
    assert hung.most == Lane.DOWNLOAD.max_calls
    cloud.dispatch.stop()
    hung.release()
    await settled(cloud.database)
    jobs = [request.job_id for request in hung.params_of(storage.TEMPLATE_DOWNLOAD)]
    assert len(jobs) == len(set(jobs)) == Lane.DOWNLOAD.max_calls


@pytest_twisted.ensureDeferred
async def test_waiting_call_starts_without_the_next_pass(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    register(cloud, cloud.admin.account.id, MAX_ACTIVE_DOWNLOADS)
    assert Lane.DOWNLOAD.max_calls < MAX_ACTIVE_DOWNLOADS
    slow = HangingPeer()
    slow.answers = cloud.ssvm_peer.answers
    cloud.agents.peers[cloud.ssvm.instance_name] = (Role.SSVM, slow)
    cloud.dispatch.start()
    for _ in range(2):
        await settled(cloud.database)
        assert len(slow.waiting) == Lane.DOWNLOAD.max_calls
        slow.release()
    await settled(cloud.database)
    assert all(ref.state is PROGRESS for ref in refs_of(cloud))
    cloud.dispatch.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RpcError(BUSY, "64 calls wait already"), WaitReason.BUSY),
        (RpcError.refused("busy", "this SSVM is busy", "8 downloads run"), WaitReason.BUSY),
        (RpcError(DEADLINE, "s-1-VM did not answer template.download in 30 s"), WaitReason.SLOW),
    ],
)
async def test_busy_or_late_ssvm_has_a_growing_backoff(
    cloud: SmallCloud, error: RpcError, code: WaitReason
) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda _: error
    register(cloud, cloud.admin.account.id, 1)
    called_at_s: list[float] = []
    for _ in range(700):
        before = len(cloud.ssvm_peer.calls)
        await cloud.dispatch.reconcile()
        if len(cloud.ssvm_peer.calls) > before:
            called_at_s.append(cloud.clock.seconds())
        cloud.clock.advance(1)
    gaps_s = [after - before for before, after in itertools.pairwise(called_at_s)]
    assert 5 <= gaps_s[0] <= 10
    assert max(gaps_s) > 55, "the backoff grows"
    assert max(gaps_s) <= RETRY_LAST_S
    [ref] = refs_of(cloud)
    assert (ref.state, ref.error_code) == (WAITING, code.value), "a late answer is not a failure"
    assert ref.error_hint
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    cloud.clock.advance(RETRY_LAST_S)
    await cloud.dispatch.reconcile()
    [ref] = refs_of(cloud)
    assert (ref.state, ref.error_code, ref.error_hint) == (PROGRESS, None, None)


@pytest_twisted.ensureDeferred
async def test_reconnected_ssvm_is_called_at_once(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda _: RpcError(DEADLINE, "late")
    register(cloud, cloud.admin.account.id, 1)
    await cloud.dispatch.reconcile()
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()
    assert refs_of(cloud)[0].state is WAITING
    cloud.dispatch.agent_up(cloud.ssvm.instance_name)
    await cloud.dispatch.reconcile()
    assert refs_of(cloud)[0].state is PROGRESS


@pytest_twisted.ensureDeferred
async def test_busy_ssvm_is_called_when_one_of_its_downloads_ends(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    register(cloud, cloud.admin.account.id, 1)
    await cloud.dispatch.reconcile()
    [first] = refs_of(cloud)
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda _: RpcError.refused("busy", "it is busy")
    register(cloud, cloud.admin.account.id, 1)
    await cloud.dispatch.reconcile()
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()
    assert refs_of(cloud)[1].state is WAITING
    end = {"job_id": first.job_id, "state": "DOWNLOADED", "received_bytes": 1, "total_bytes": 1}
    await cloud.from_agent(cloud.ssvm, storage.TEMPLATE_FINISHED, end)
    await cloud.dispatch.reconcile()
    assert refs_of(cloud)[1].state is PROGRESS


@pytest_twisted.ensureDeferred
async def test_a_store_that_one_ssvm_cannot_mount_is_offered_to_another(cloud: SmallCloud) -> None:
    able = FakePeer()
    able.answers[storage.TEMPLATE_DOWNLOAD] = started
    refusal = RpcError.refused("mount_failed", "the store does not answer")
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = lambda _: refusal
    name = second_ssvm(cloud, able)
    register(cloud, cloud.admin.account.id, 1)
    await cloud.dispatch.reconcile()
    await cloud.dispatch.reconcile()
    [ref] = refs_of(cloud)
    assert (ref.state, ref.agent_name) == (PROGRESS, name)


# --- a store that hangs


async def report_progress(cloud: SmallCloud, ref: templates.StoreRef, *, waits_for_store: bool) -> None:
    status = {"job_id": ref.job_id, "state": PROGRESS.value, "waits_for_store": waits_for_store}
    await cloud.from_agent(cloud.ssvm, storage.TEMPLATE_PROGRESS, status)


@pytest_twisted.ensureDeferred
async def test_downloads_that_wait_for_a_store_release_their_slots(
    cloud: SmallCloud,
) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    register(cloud, cloud.admin.account.id, MAX_ACTIVE_DOWNLOADS)
    await cloud.dispatch.reconcile()
    hung = refs_of(cloud)
    register(cloud, cloud.admin.account.id, 2, another_store(cloud))
    await cloud.dispatch.reconcile()
    assert [ref.state for ref in refs_of(cloud)[-2:]] == [WAITING] * 2, "all slots are in use"
    for ref in hung:
        await report_progress(cloud, ref, waits_for_store=True)
    await cloud.dispatch.reconcile()
    assert [ref.state for ref in refs_of(cloud)[-2:]] == [PROGRESS] * 2
    assert {ref.error_code for ref in refs_of(cloud)[:-2]} == {WaitReason.STORE_HANGS.value}
    for ref in hung:
        await report_progress(cloud, ref, waits_for_store=False)
    assert {(ref.error_code, ref.error_hint) for ref in refs_of(cloud)} == {(None, None)}


@pytest_twisted.ensureDeferred
async def test_downloads_that_wait_for_a_store_are_bounded_too(cloud: SmallCloud) -> None:
    def hangs(request: DownloadRequest) -> DownloadStatus:
        return DownloadStatus(request.job_id, PROGRESS, waits_for_store=True)

    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = hangs
    register(cloud, cloud.admin.account.id, MAX_DOWNLOADS + 5)
    for _ in range(2 * MAX_DOWNLOADS // MAX_ACTIVE_DOWNLOADS):
        await cloud.dispatch.reconcile()
    assert sum(ref.agent_name is not None for ref in refs_of(cloud)) == MAX_DOWNLOADS


# --- fairness


@pytest_twisted.ensureDeferred
async def test_no_account_gets_all_slots(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    many, few = add_account(cloud, "many"), add_account(cloud, "few")
    register(cloud, many, 500)
    register(cloud, few, 2)
    await cloud.dispatch.reconcile()
    given = owners_of_given(cloud)
    assert len(given) == MAX_ACTIVE_DOWNLOADS
    assert given.count(few) == 2, "two downloads do not wait for 500 of another account"


@pytest_twisted.ensureDeferred
async def test_free_slot_goes_to_the_account_with_fewest_downloads(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    many, late = add_account(cloud, "many"), add_account(cloud, "late")
    register(cloud, many, 50)
    await cloud.dispatch.reconcile()
    register(cloud, late, 3)
    await cloud.dispatch.reconcile()
    assert owners_of_given(cloud) == [many] * MAX_ACTIVE_DOWNLOADS
    for ref in [ref for ref in refs_of(cloud) if ref.agent_name][:3]:
        await cloud.from_agent(
            cloud.ssvm,
            storage.TEMPLATE_FINISHED,
            {"job_id": ref.job_id, "state": "DOWNLOADED", "received_bytes": 1, "total_bytes": 1},
        )
    await cloud.dispatch.reconcile()
    running = [ref for ref in refs_of(cloud) if ref.agent_name and not ref.state.ended]
    owners = [cloud.database.run_now(templates.by_id, ref.template_id).account_id for ref in running]
    assert sorted(owners) == sorted([many] * (MAX_ACTIVE_DOWNLOADS - 3) + [late] * 3)


@pytest_twisted.ensureDeferred
async def test_zone_without_an_ssvm_does_not_affect_another(cloud: SmallCloud) -> None:
    def add(connection: sa.Connection) -> int:
        zone = zones.put_zone(connection, "dark", arch="amd64", description="", dns=[], internal_dns=[])
        return zones.put_store(
            connection, "far", zone_id=zone.id, url="nfs://10.12.0.9/x", host_path=None, nfs_version="4.2"
        ).id

    far = cloud.database.run_now(add)
    bright, cloud.store = cloud.store, cloud.database.run_now(zones.store_by_id, far)
    register(cloud, cloud.admin.account.id, 300)
    cloud.store = bright
    register(cloud, cloud.admin.account.id, 1)
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    await cloud.dispatch.reconcile()
    [given] = [ref for ref in refs_of(cloud) if ref.agent_name]
    assert given.store_id == bright.id
    dark = [ref for ref in refs_of(cloud) if ref.store_id == far]
    assert {ref.error_code for ref in dark[:200]} == {WaitReason.NO_SSVM.value}


def owners_of_given(cloud: SmallCloud) -> list[int]:
    given = [ref for ref in refs_of(cloud) if ref.agent_name]
    return [cloud.database.run_now(templates.by_id, ref.template_id).account_id for ref in given]


# --- room on stores


@pytest_twisted.ensureDeferred
async def test_full_store_is_measured_before_it_is_rejected(cloud: SmallCloud) -> None:
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 100, 95)
    used = [95, 20]
    cloud.ssvm_peer.answers[storage.STORAGE_STATS] = lambda _: storage.StoreStats(100, used.pop(0))
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    arguments = {"name": "x", "url": "http://x.test/a.qcow2", "format": "QCOW2", "hypervisor": "KVM"}
    with pytest.raises(Exception, match="90% full"):
        await cloud.call("registerTemplate", **arguments)
    assert (await cloud.call("registerTemplate", **arguments))["count"] == 1
    assert len(cloud.ssvm_peer.params_of(storage.STORAGE_STATS)) == 2


@pytest_twisted.ensureDeferred
async def test_store_usage_is_measured_after_deletions_and_downloads(cloud: SmallCloud) -> None:
    used = iter([70, 30])
    cloud.ssvm_peer.answers[storage.STORAGE_STATS] = lambda _: storage.StoreStats(100, next(used))
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = ended
    cloud.ssvm_peer.answers[storage.TEMPLATE_DELETE] = lambda _: Acknowledgement()
    template, _ = cloud.add_template(state=WAITING)
    await cloud.dispatch.reconcile()
    await settled(cloud.database)
    assert used_bytes(cloud) == 70
    await cloud.job("deleteTemplate", id=template.uuid)
    await settled(cloud.database)
    assert used_bytes(cloud) == 30


@pytest_twisted.ensureDeferred
async def test_one_measurement_serves_all_waiting_requests(cloud: SmallCloud) -> None:
    cloud.database.run_now(zones.set_store_usage, cloud.store.id, 100, 95)

    class SlowStats(FakePeer):
        released: Deferred[None] = Deferred()

        async def call(self, method: str, params: Any = None, **more: Any) -> Any:
            answer = await super().call(method, params, **more)
            if method == storage.STORAGE_STATS:
                await self.released
            return answer

    peer = SlowStats()
    peer.answers = {
        storage.STORAGE_STATS: lambda _: storage.StoreStats(100, 1),
        storage.TEMPLATE_DOWNLOAD: started,
    }
    cloud.agents.peers[cloud.ssvm.instance_name] = (Role.SSVM, peer)
    arguments = {"url": "http://x.test/a.qcow2", "format": "QCOW2", "hypervisor": "KVM"}
    calls = [
        Deferred.fromCoroutine(cloud.call("registerTemplate", name=f"t{number}", **arguments))
        for number in range(20)
    ]
    await settled(cloud.database)
    assert peer.calls
    peer.released.callback(None)
    for call in calls:
        assert (await call)["count"] == 1
    assert len(peer.params_of(storage.STORAGE_STATS)) <= 2


def used_bytes(cloud: SmallCloud) -> int | None:
    return cloud.database.run_now(zones.store_by_id, cloud.store.id).used_bytes
