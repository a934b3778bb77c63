# SPDX-License-Identifier: Apache-2.0
"""Templates and console sessions are reconciled with agents' listings; a failed listing changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.management.consoles.session_reconciler import ENDED, LOST, ConsoleSessionReconciler
from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.control.agent_reconciler import RECONCILE_EVERY_S, AgentReconciler
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.state import console_sessions, instances, templates
from systemvm.management.state.columns import now
from systemvm.management.state.status import AgentState, InstanceState, InstanceType
from systemvm.management.state.templates import StoreRef
from systemvm.management.templates.reconciler import TemplateReconciler
from systemvm.rpc.core.errors import DEADLINE, METHOD_NOT_FOUND, NOT_CONNECTED, RpcError
from systemvm.wire import console, protocol, storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import Hello
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadState, DownloadStatus, JobListing, ListedTemplate, TemplateListing

HELLO = Hello(protocol.CURRENT, "n", "r", "0", "0", "0", "boot", 0.0, [], "first")
FAILURES = [
    RpcError(DEADLINE, "no answer in 100 s"),
    RpcError(NOT_CONNECTED, "the connection was lost"),
    RpcError.refused("store_not_mounted", "secondary storage is not mounted"),
    RpcError.refused("store_failed", "Input/output error"),
]


def connected(name: str, role: Role) -> tuple[AgentDirectory, Agent, FakePeer]:
    directory, peer = AgentDirectory(lambda name: True), FakePeer()
    agent = directory.expect(name, role)
    fake: Any = peer
    directory.connected(agent, fake, HELLO)
    agent.status = AgentStatus(AgentState.UP)
    return directory, agent, peer


class Ssvm:
    def __init__(self, cloud: SmallCloud) -> None:
        self.directory, self.agent, self.peer = connected(cloud.ssvm.instance_name, Role.SSVM)
        self.peer.answers[storage.STORAGE_JOBS] = lambda params: JobListing([])
        self.woken: list[bool] = []
        self.step = TemplateReconciler(cloud.database, self.directory, lambda: self.woken.append(True))
        self.cloud = cloud

    def ref(self, ref: StoreRef) -> StoreRef:
        return self.cloud.database.run_now(templates.store_refs.by_id, ref.id)

    def has(self, *places: tuple[int, int]) -> None:
        listed = [ListedTemplate(account, template, "job") for account, template in places]
        self.peer.answers[storage.TEMPLATE_LIST] = lambda params: TemplateListing(listed)


@pytest.fixture
def ssvm(cloud: SmallCloud) -> Ssvm:
    return Ssvm(cloud)


# --- templates


@pytest_twisted.ensureDeferred
async def test_missing_template_is_downloaded_again(cloud: SmallCloud, ssvm: Ssvm) -> None:
    kept, kept_ref = cloud.add_template()
    _, gone_ref = cloud.add_template()
    ssvm.has((kept.account_id, kept.id), (9, 999))  # and an unknown one, which is kept
    await ssvm.step.reconcile(ssvm.agent)
    assert ssvm.ref(kept_ref) == kept_ref
    requeued = ssvm.ref(gone_ref)
    assert (requeued.state, requeued.agent_name) == (DownloadState.NOT_DOWNLOADED, None)
    assert requeued.job_id != gone_ref.job_id, "for the SSVM the old job has ended"
    assert ssvm.woken == [True]
    assert {name for name, _ in ssvm.peer.calls} == {
        storage.STORAGE_JOBS,
        storage.TEMPLATE_LIST,
        storage.STORAGE_SWEEP,
    }


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: str(failure.code))
async def test_a_failed_listing_is_not_an_empty_one(cloud: SmallCloud, ssvm: Ssvm, failure: RpcError) -> None:
    _, ref = cloud.add_template()
    pages: list[Callable[[], Any]] = [lambda: TemplateListing([], next="1/1"), lambda: failure]
    ssvm.peer.answers[storage.TEMPLATE_LIST] = lambda params: pages.pop(0)()
    with pytest.raises(RpcError):
        await ssvm.step.reconcile(ssvm.agent)
    assert pages == [], "an incomplete listing does not count"
    assert ssvm.ref(ref) == ref
    ssvm.peer.answers[storage.STORAGE_JOBS] = lambda params: failure
    with pytest.raises(RpcError):
        await ssvm.step.reconcile(ssvm.agent)
    assert ssvm.ref(ref) == ref
    assert ssvm.woken == []


@pytest_twisted.ensureDeferred
async def test_an_ssvm_is_told_which_parts_of_downloads_are_still_wanted(
    cloud: SmallCloud, ssvm: Ssvm
) -> None:
    _, running = cloud.add_template(state=DownloadState.DOWNLOAD_IN_PROGRESS)
    cloud.database.run_now(templates.update_store_ref, running.id, agent_name=cloud.ssvm.instance_name)
    _, ready = cloud.add_template()
    ssvm.has()
    await ssvm.step.reconcile(ssvm.agent)
    [order] = ssvm.peer.params_of(storage.STORAGE_SWEEP)
    assert running.job_id in order.wanted_job_ids
    assert ready.job_id not in order.wanted_job_ids


@pytest_twisted.ensureDeferred
async def test_an_older_agent_that_sweeps_by_itself_is_accepted(cloud: SmallCloud, ssvm: Ssvm) -> None:
    ssvm.has()
    ssvm.peer.answers[storage.STORAGE_SWEEP] = lambda params: RpcError(METHOD_NOT_FOUND, "no such method")
    await ssvm.step.reconcile(ssvm.agent)


@pytest_twisted.ensureDeferred
async def test_all_pages_of_a_listing_count(cloud: SmallCloud, ssvm: Ssvm) -> None:
    first, first_ref = cloud.add_template()
    second, second_ref = cloud.add_template()
    pages = {
        "": TemplateListing([ListedTemplate(first.account_id, first.id)], next="here"),
        "here": TemplateListing([ListedTemplate(second.account_id, second.id)]),
    }
    ssvm.peer.answers[storage.TEMPLATE_LIST] = lambda params: pages[params.after]
    await ssvm.step.reconcile(ssvm.agent)
    assert [ssvm.ref(ref) for ref in (first_ref, second_ref)] == [first_ref, second_ref]


@pytest_twisted.ensureDeferred
async def test_template_that_becomes_ready_during_a_listing_is_not_lost(
    cloud: SmallCloud, ssvm: Ssvm
) -> None:
    added: list[StoreRef] = []

    def listing(params: Any) -> TemplateListing:
        added.append(cloud.add_template()[1])
        return TemplateListing([])

    ssvm.peer.answers[storage.TEMPLATE_LIST] = listing
    await ssvm.step.reconcile(ssvm.agent)
    assert ssvm.ref(added[0]) == added[0]


@pytest_twisted.ensureDeferred
async def test_lost_results_are_applied_and_unexpected_jobs_aborted(cloud: SmallCloud, ssvm: Ssvm) -> None:
    ssvm.has()
    _, ref = cloud.add_template(state=DownloadState.DOWNLOAD_IN_PROGRESS)
    cloud.database.run_now(templates.update_store_ref, ref.id, agent_name=cloud.ssvm.instance_name)
    done = DownloadStatus(ref.job_id, DownloadState.DOWNLOAD_ERROR, error=storage.DownloadError("x", "y"))
    unexpected = DownloadStatus("unexpected-job", DownloadState.DOWNLOAD_IN_PROGRESS)
    ssvm.peer.answers[storage.STORAGE_JOBS] = lambda params: JobListing([done, unexpected])
    ssvm.peer.answers[storage.TEMPLATE_ABORT] = lambda params: None
    await ssvm.step.reconcile(ssvm.agent)
    assert ssvm.ref(ref).state is DownloadState.DOWNLOAD_ERROR
    assert ssvm.peer.params_of(storage.TEMPLATE_ABORT) == [storage.DownloadAbort("unexpected-job")]


# --- consoles


class Cpvm:
    def __init__(self, cloud: SmallCloud) -> None:
        self.directory, self.agent, self.peer = connected(cloud.cpvm.instance_name, Role.CPVM)
        self.step = ConsoleSessionReconciler(cloud.database, self.directory)
        self.cloud = cloud
        self.peer.answers[console.CONSOLE_END] = lambda params: None

    def keeps(self, *session_ids: str) -> None:
        self.peer.answers[console.CONSOLE_LIST] = lambda params: console.ConsoleSessions(list(session_ids))

    def session(self, token: str, *, spent_s_ago: float | None) -> str:
        acquired = None if spent_s_ago is None else now() - timedelta(seconds=spent_s_ago)

        def make(connection: Any) -> str:
            cloud = self.cloud
            vm = instances.create(
                connection,
                InstanceType.USER,
                account_id=1,
                zone_id=cloud.zone.id,
                name=token,
                state=InstanceState.RUNNING,
            )
            row = console_sessions.create(
                connection, account_id=1, domain_id=1, zone_id=cloud.zone.id, user_id=1, vm_id=vm.id,
                proxy_id=cloud.cpvm.id, token_hash=token, token_expires=now() + timedelta(hours=1),
                creator_address=None,
            )  # fmt: skip
            table = console_sessions.rows.table.c
            console_sessions.rows.update_where(connection, table.id == row.id, acquired=acquired)
            return row.uuid

        return str(self.cloud.database.run_now(make))

    def reason(self, session_id: str) -> str | None:
        table = console_sessions.rows.table.c
        row = self.cloud.database.run_now(console_sessions.rows.one, table.uuid == session_id)
        assert row is not None
        return row.close_reason


@pytest.fixture
def cpvm(cloud: SmallCloud) -> Cpvm:
    return Cpvm(cloud)


@pytest_twisted.ensureDeferred
async def test_lost_sessions_of_a_cpvm_end(cpvm: Cpvm) -> None:
    kept = cpvm.session("kept", spent_s_ago=100)
    lost = cpvm.session("lost", spent_s_ago=100)
    on_its_way = cpvm.session("on its way", spent_s_ago=1)
    unspent = cpvm.session("unspent", spent_s_ago=None)
    cpvm.keeps(kept)
    await cpvm.step.reconcile(cpvm.agent)
    assert [cpvm.reason(each) for each in (kept, lost, on_its_way, unspent)] == [None, LOST, None, None]
    assert cpvm.peer.params_of(console.CONSOLE_END) == []


@pytest_twisted.ensureDeferred
async def test_new_process_of_a_cpvm_releases_old_sessions_at_once(cpvm: Cpvm) -> None:
    young = cpvm.session("young", spent_s_ago=1)
    waiting = cpvm.session("waiting", spent_s_ago=None)
    fake: Any = cpvm.peer
    cpvm.directory.connected(cpvm.agent, fake, evolve(HELLO, instance="second"))
    cpvm.agent.status = AgentStatus(AgentState.UP)
    cpvm.keeps()
    await cpvm.step.reconcile(cpvm.agent)
    assert cpvm.reason(young) == LOST
    assert cpvm.reason(waiting) is None, "its token is still valid"


@pytest_twisted.ensureDeferred
async def test_ended_sessions_are_ended_at_the_cpvm(cpvm: Cpvm) -> None:
    kept = cpvm.session("kept", spent_s_ago=100)
    logged_out = cpvm.session("logged-out", spent_s_ago=100)
    cpvm.cloud.database.run_now(console_sessions.close, logged_out, "logged_out")
    cpvm.keeps("ended-long-ago", kept, logged_out)
    await cpvm.step.reconcile(cpvm.agent)
    ended = {end.code: end for end in cpvm.peer.params_of(console.CONSOLE_END)}
    assert ended == {
        "session_ended": console.ConsoleEnd(["ended-long-ago"], ENDED, "session_ended"),
        "logged_out": console.ConsoleEnd([logged_out], ENDED, "logged_out"),
    }


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("failure", FAILURES[:2], ids=lambda failure: str(failure.code))
async def test_failed_listing_of_a_cpvm_ends_no_session(cpvm: Cpvm, failure: RpcError) -> None:
    session = cpvm.session("old", spent_s_ago=100)
    cpvm.peer.answers[console.CONSOLE_LIST] = lambda params: failure
    with pytest.raises(RpcError):
        await cpvm.step.reconcile(cpvm.agent)
    assert cpvm.reason(session) is None


# --- schedule


@pytest_twisted.ensureDeferred
async def test_agents_with_listings_are_reconciled_at_connection_and_periodically() -> None:
    directory, agent, _ = connected("s-1-VM", Role.SSVM)
    clock, seen = Clock(), []
    reconciliation = AgentReconciler(clock, directory)
    reconciliation.subscribe()

    async def step(agent: Agent) -> None:
        seen.append(agent.name)

    reconciliation.add(Role.SSVM, step)
    await directory.came_up(agent)
    assert seen == ["s-1-VM"]
    reconciliation.start()
    clock.advance(RECONCILE_EVERY_S)
    clock.advance(RECONCILE_EVERY_S)
    assert seen == ["s-1-VM"] * 3
    agent.hello = evolve(HELLO, protocol_version=1)
    clock.advance(RECONCILE_EVERY_S)
    assert seen == ["s-1-VM"] * 3, "an agent of protocol 1 has no listings"
    reconciliation.stop()


@pytest_twisted.ensureDeferred
async def test_failed_reconciliation_backs_off_and_a_hung_one_is_not_repeated() -> None:
    directory, _, _ = connected("s-1-VM", Role.SSVM)
    clock, started_at_s = Clock(), []
    reconciliation = AgentReconciler(clock, directory)
    reconciliation.subscribe()
    hangs: list[Deferred[None]] = []

    async def step(agent: Agent) -> None:
        started_at_s.append(clock.seconds())
        if len(started_at_s) == 6:
            hangs.append(Deferred())
            await hangs[0]
        raise RpcError(DEADLINE, "a store is slow")

    reconciliation.add(Role.SSVM, step)
    reconciliation.start()
    while not hangs:
        clock.advance(1)
    gaps_s = [after - before for before, after in itertools.pairwise(started_at_s)]
    assert gaps_s[-1] > 4 * RECONCILE_EVERY_S
    for _ in range(20):
        clock.advance(RECONCILE_EVERY_S)
    assert len(started_at_s) == 6
    reconciliation.stop()
    hangs[0].callback(None)


@pytest_twisted.ensureDeferred
async def test_a_damaged_template_is_downloaded_again(cloud: SmallCloud, ssvm: Ssvm) -> None:
    template, ref = cloud.add_template()
    listed = ListedTemplate(
        template.account_id, template.id, ref.job_id, problem="its file is missing", is_damaged=True
    )
    ssvm.peer.answers[storage.TEMPLATE_LIST] = lambda params: TemplateListing([listed])
    await ssvm.step.reconcile(ssvm.agent)
    assert ssvm.ref(ref).state is DownloadState.NOT_DOWNLOADED


@pytest_twisted.ensureDeferred
async def test_what_was_deleted_long_ago_and_is_still_there_is_quarantined(
    cloud: SmallCloud, ssvm: Ssvm
) -> None:
    (old, old_ref), (fresh, fresh_ref) = cloud.add_template(), cloud.add_template()
    kept, kept_ref = cloud.add_template()
    for template in (old, fresh):
        cloud.database.run_now(templates.remove, template.id)
    listed = [
        ListedTemplate(old.account_id, old.id, old_ref.job_id, modified_unix_s=1.0),
        ListedTemplate(fresh.account_id, fresh.id, fresh_ref.job_id, modified_unix_s=now().timestamp()),
        ListedTemplate(kept.account_id, kept.id, kept_ref.job_id, modified_unix_s=1.0),
        ListedTemplate(9, 999, "of another cloud", modified_unix_s=1.0),
        ListedTemplate(9, 998, "", modified_unix_s=1.0),
    ]
    ssvm.peer.answers[storage.TEMPLATE_LIST] = lambda params: TemplateListing(listed)
    ssvm.peer.answers[storage.TEMPLATE_QUARANTINE] = lambda params: Acknowledgement()
    await ssvm.step.reconcile(ssvm.agent)
    [order] = ssvm.peer.params_of(storage.TEMPLATE_QUARANTINE)
    assert (order.template_id, order.job_id) == (old.id, old_ref.job_id)
