# SPDX-License-Identifier: Apache-2.0
"""Uploads at fetch, with movers and clients that a test scripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import upload_mover
from systemvm.ssvm.fetch.bucket_store import BucketStore
from systemvm.ssvm.fetch.job_gate import JobGate
from systemvm.ssvm.fetch.job_on_store import JobOnStore
from systemvm.ssvm.fetch.mover_parking import MoverParking
from systemvm.ssvm.fetch.space_ledger import SpaceLedger
from systemvm.ssvm.fetch.upload_transfer import UploadTransfer
from systemvm.ssvm.fetch_messages import FetchStatus
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_messages import JobDirectory
from systemvm.ssvm.upload_messages import (
    UploadAction,
    UploadCall,
    UploadOrder,
)
from systemvm.wire.storage import ImageFormat, Store
from unit.ssvm.fetch.scripted_mover import ScriptedClient, ScriptedMover

EXPIRES_S = 3600.0
ORDER = UploadOrder(
    "s-1-VM", "job-1", "request-1", 204, ImageFormat.QCOW2, Store("10.12.0.2", "/export"), 1000, EXPIRES_S
)


class World:
    """A store and movers that do what a test says; `clock` is the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock: Any = MemoryReactorClock()
        self.movers: list[ScriptedMover] = []
        self.gate = JobGate(self.clock, 2, lambda: 2.5)  # two places, and no more by growth
        self.free_bytes = 10_000
        self.store_fails: RpcError | None = None
        self.reserved: list[int] = []
        self.quota_fails: TransferError | None = None
        self.removed = 0
        self.changes: list[FetchStatus] = []

        async def make(*_: Any) -> tuple[JobDirectory, list[int]]:
            if self.store_fails is not None:
                raise self.store_fails
            return JobDirectory(self.free_bytes), [os.open(os.devnull, os.O_RDONLY)]

        async def remove(store: JobOnStore, writer_ended: Any, *_: Any) -> None:
            await writer_ended
            self.removed += 1

        monkeypatch.setattr(upload_mover, "MoverProcess", ScriptedMover)
        monkeypatch.setattr(JobOnStore, "make", make)
        monkeypatch.setattr(JobOnStore, "remove", remove)

    async def reserve(self, job_id: str, size_bytes: int) -> None:
        self.reserved.append(size_bytes)
        if self.quota_fails is not None:
            raise self.quota_fails

    def begin(self, **changes: Any) -> UploadTransfer:
        upload = UploadTransfer(
            self.clock,
            Paths(),
            DEFAULT,
            self.movers,  # type: ignore[arg-type]
            self.gate,
            SpaceLedger(),
            MoverParking(self.clock),
            evolve(ORDER, **changes),
            BucketStore(self.clock, DEFAULT),
            self.changes.append,
            self.reserve,
            self.clock.seconds,
        )
        Deferred.fromCoroutine(upload.run())
        return upload

    def open_files(self) -> int:
        return len(list(Path("/proc/self/fd").iterdir()))


def call(upload: UploadTransfer, action: UploadAction, **what: Any) -> ScriptedClient:
    client = ScriptedClient()
    served = upload.serve(UploadCall("job-1", action, **what), client)  # type: ignore[arg-type]
    Deferred.fromCoroutine(served)
    return client


def body(upload: UploadTransfer, offset: int, size: int, total: int | None = 10) -> ScriptedClient:
    return call(upload, UploadAction.RECEIVE, offset=offset, body_bytes=size, total_bytes=total)


def form(upload: UploadTransfer) -> ScriptedClient:
    return call(upload, UploadAction.RECEIVE, body_bytes=100, is_whole=True)


def receiving(world: World, upload: UploadTransfer, offset: int = 0) -> ScriptedClient:
    """Return a client whose body a mover receives."""
    client = body(upload, offset, 10 - offset)
    if world.movers[-1].is_killed or not world.movers[-1].bodies:
        world.movers[-1].waits(offset)
    assert client.accepted is not None
    return client


def code_of(upload: UploadTransfer) -> str:
    error = upload.state.status.error
    return "" if error is None else error.code
