# SPDX-License-Identifier: Apache-2.0
"""Downloads to a hung store do not use up the places of downloads to another store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from rpc_wait import until
from systemvm.rpc.core import frame
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.message import Response
from systemvm.rpc.core.method import Call, Caller
from systemvm.ssvm import store_messages
from systemvm.ssvm.fetch.service import FetchService
from systemvm.ssvm.fetch_messages import FetchStatus, StartRequest
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.paths import Paths
from systemvm.wire.storage import DownloadAbort, DownloadRequest, DownloadState, ImageFormat, Store

HANGS, IS_SLOW = Store("10.12.0.2", "/hangs"), Store("10.12.0.3", "/slow")
LIMITS = evolve(DEFAULT, max_active_jobs=2, max_jobs=4)
CALL = Call(Caller("agent", "agent"), "r", None)


class FakeStoreHelper(LineOnlyReceiver):
    """Refuse to create directories on the hung store, and never answer for the other store."""

    delimiter = b"\n"
    waiting: set[FakeStoreHelper] = set()  # of all connections

    def lineReceived(self, line: bytes) -> None:
        call = msgspec.json.decode(line)
        is_other = call["params"]["mount_id"] == store_messages.mount_id(IS_SLOW)
        if is_other and call["method"] == store_messages.MAKE:
            self.waiting.add(self)
            return
        refusal = RpcError.refused("store_hangs", "the NFS server does not answer")
        assert self.transport is not None
        self.transport.write(frame.encode(Response(call["id"], error=refusal).to_wire()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.waiting.discard(self)


@pytest.fixture
def fetch(tmp_path: Path) -> Iterator[FetchService]:
    paths = Paths(store_socket=tmp_path / "store.sock")
    listener: Any = reactor.listenUNIX(  # type: ignore[attr-defined]
        str(paths.store_socket), Factory.forProtocol(FakeStoreHelper)
    )
    yield FetchService(reactor, paths, LIMITS)
    listener.stopListening()


async def start(fetch: FetchService, job_id: str, store: Store) -> FetchStatus:
    download = DownloadRequest(
        job_id, "r", 1, 2, "u", "d", "http://x.test/a", ImageFormat.RAW, store, max_size_bytes=1 << 20
    )
    return await fetch.start(CALL, StartRequest("s-1-VM", download))


async def refusal_of(fetch: FetchService, job_id: str, store: Store) -> RpcError:
    with pytest.raises(RpcError) as refused:
        await start(fetch, job_id, store)
    return refused.value


@pytest_twisted.ensureDeferred
async def test_jobs_that_wait_for_a_store_leave_their_places_to_others(
    fetch: FetchService,
) -> None:
    hung = [f"hung-{number}" for number in range(LIMITS.max_active_jobs)]
    for job_id in hung:
        await start(fetch, job_id, HANGS)

    await until(lambda: all(fetch._jobs[job_id].state.status.waits_for_store for job_id in hung))
    others = [f"other-{number}" for number in range(2)]
    for job_id in others:
        assert (await start(fetch, job_id, IS_SLOW)).status.state is DownloadState.DOWNLOAD_IN_PROGRESS
    await until(lambda: len(FakeStoreHelper.waiting) == len(others))
    assert (await refusal_of(fetch, "one-more", IS_SLOW)).reason == "busy"
    for job_id in hung + others:
        await fetch.stop(CALL, DownloadAbort(job_id))
