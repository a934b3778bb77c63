# SPDX-License-Identifier: Apache-2.0
"""The status of one download as it is reported to the agent: steps, bytes, and the outcome."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch_messages import FetchStatus
from systemvm.ssvm.mover_messages import MoverProgress, MoverResult
from systemvm.wire.storage import DownloadState, DownloadStatus, DownloadStep

MAX_STEPS = 60


class TransferProgress:
    """`state` is the newest status; `on_change` is called with each one that the agent must receive."""

    def __init__(self, job_id: str, on_change: Callable[[FetchStatus], None]) -> None:
        self._on_change = on_change
        self.state = FetchStatus(DownloadStatus(job_id, DownloadState.DOWNLOAD_IN_PROGRESS))

    def add_step(self, text: str, *, notify: bool = False) -> None:
        """Record what the job does now; without `notify` it is sent with the next change."""
        status = self.state.status
        if not (status.steps and status.steps[-1].text == text):
            steps = [*status.steps, DownloadStep(text, time.time())]
            if len(steps) > MAX_STEPS:  # keep the first and the last: a source can break off for days
                del steps[MAX_STEPS // 2]
            self.state = FetchStatus(evolve(status, steps=steps))
        if notify:
            self._on_change(self.state)

    def wait_for_store(self) -> None:
        """From now on the job counts as waiting, so that others can have its place."""
        self.add_step("waits for the store, which is busy or does not answer")
        self._set(FetchStatus(evolve(self.state.status, waits_for_store=True)))

    def stop_waiting_for_store(self) -> None:
        if self.state.status.waits_for_store:
            self._set(FetchStatus(evolve(self.state.status, waits_for_store=False)))

    def wait_for_turn(self) -> None:
        """From now on the job counts as waiting, so that a smaller one can have its place."""
        self.add_step("waits for its turn: other large downloads run")
        self._set(FetchStatus(evolve(self.state.status, waits_for_turn=True)))

    def stop_waiting_for_turn(self) -> None:
        if self.state.status.waits_for_turn:
            self._set(FetchStatus(evolve(self.state.status, waits_for_turn=False)))

    def wait_for_source(self, why: str) -> None:
        """From now on the job counts as waiting for the SSVM that has its file."""
        self.add_step(f"waits for its source, another secondary storage VM: {why}")
        if not self.state.status.waits_for_source:
            self._set(FetchStatus(evolve(self.state.status, waits_for_source=True)))

    def stop_waiting_for_source(self) -> None:
        if self.state.status.waits_for_source:
            self._set(FetchStatus(evolve(self.state.status, waits_for_source=False)))

    def update(self, progress: MoverProgress) -> None:
        """Take the counts of a mover's report."""
        status = self.state.status
        if progress.received_bytes != status.received_bytes or progress.total_bytes != status.total_bytes:
            status = evolve(status, received_bytes=progress.received_bytes, total_bytes=progress.total_bytes)
            self._set(FetchStatus(status))

    def restart(self) -> None:
        """Reset the counts: the download starts again from the first byte."""
        self._set(FetchStatus(evolve(self.state.status, received_bytes=0, total_bytes=None)))

    def complete(self, moved: MoverResult) -> None:
        """All bytes are in the job's directory; the agent publishes them."""
        status = evolve(
            self.state.status, received_bytes=moved.received_bytes, total_bytes=moved.received_bytes
        )
        self._set(FetchStatus(status, moved))

    def fail(self, error: TransferError) -> None:
        status = evolve(
            self.state.status,
            state=DownloadState.DOWNLOAD_ERROR,
            error=error.to_download_error(),
            waits_for_store=False,
            waits_for_turn=False,
            waits_for_source=False,
        )
        self._set(FetchStatus(status))

    def _set(self, state: FetchStatus) -> None:
        self.state = state
        self._on_change(state)
