# SPDX-License-Identifier: Apache-2.0
"""Hung, slow and busy SSVMs and stores do not delay the downloads of others."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred

from settling import settled
from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.management.state import templates, zones
from systemvm.management.templates.ssvm_calls import RETRY_LAST_S, STATUS_VALID_S, Lane
from systemvm.management.templates.wait_reason import WaitReason
from systemvm.rpc.core.errors import BUSY, DEADLINE, RpcError
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    MAX_ACTIVE_DOWNLOADS,
    MAX_DOWNLOADS,
    DownloadRequest,
    DownloadStatus,
)
from template_downloads import (
    PROGRESS,
    WAITING,
    refs_of,
    register,
    second_ssvm,
    started,
)

STEP_S = 5


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


def another_store(cloud: SmallCloud) -> int:
    def add(connection: sa.Connection) -> int:
        return zones.put_store(
            connection, "b", zone_id=cloud.zone.id, url="nfs://10.12.0.3/b", host_path=None, nfs_version="4.2"
        ).id

    return cloud.database.run_now(add)


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
    for _ in range(140):
        before = len(cloud.ssvm_peer.calls)
        await cloud.dispatch.reconcile()
        if len(cloud.ssvm_peer.calls) > before:
            called_at_s.append(cloud.clock.seconds())
        cloud.clock.advance(STEP_S)
    gaps_s = [after - before for before, after in itertools.pairwise(called_at_s)]
    assert 5 <= gaps_s[0] <= 10 + STEP_S
    assert max(gaps_s) > 55, "the backoff grows"
    assert max(gaps_s) <= RETRY_LAST_S + STEP_S
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
async def test_large_downloads_that_wait_for_their_turn_release_their_slots(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = started
    register(cloud, cloud.admin.account.id, MAX_ACTIVE_DOWNLOADS)
    await cloud.dispatch.reconcile()
    large = refs_of(cloud)[0]
    register(cloud, cloud.admin.account.id, 1)
    await cloud.dispatch.reconcile()
    assert refs_of(cloud)[-1].state is WAITING
    status = {"job_id": large.job_id, "state": PROGRESS.value, "waits_for_turn": True}
    await cloud.from_agent(cloud.ssvm, storage.TEMPLATE_PROGRESS, status)
    await cloud.dispatch.reconcile()
    assert refs_of(cloud)[-1].state is PROGRESS
    waiting = next(ref for ref in refs_of(cloud) if ref.id == large.id)
    assert (waiting.error_code, waiting.agent_name) == (WaitReason.LARGE.value, large.agent_name)


@pytest_twisted.ensureDeferred
async def test_downloads_that_wait_for_a_store_are_bounded_too(cloud: SmallCloud) -> None:
    def hangs(request: DownloadRequest) -> DownloadStatus:
        return DownloadStatus(request.job_id, PROGRESS, waits_for_store=True)

    cloud.ssvm_peer.answers[storage.TEMPLATE_DOWNLOAD] = hangs
    register(cloud, cloud.admin.account.id, MAX_DOWNLOADS + 5)
    for _ in range(2 * MAX_DOWNLOADS // MAX_ACTIVE_DOWNLOADS):
        await cloud.dispatch.reconcile()
    assert sum(ref.agent_name is not None for ref in refs_of(cloud)) == MAX_DOWNLOADS
