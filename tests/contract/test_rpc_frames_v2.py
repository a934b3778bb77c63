# SPDX-License-Identifier: Apache-2.0
"""Golden frames from protocol 2 on: both ends parse them and send every member in them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contract.test_rpc_frames import contains, lines
from systemvm.rpc.core import frame
from systemvm.rpc.core.message import Request, Response, read
from systemvm.wire import (
    acme,
    agent,
    console,
    extract,
    recording,
    snapshot,
    source_networks,
    storage,
    upload,
)
from systemvm.wire.acknowledgement import Acknowledgement

#: Method: type of its parameters and of its result.
TYPES: dict[str, tuple[Any, Any]] = {
    agent.HELLO: (agent.Hello, agent.Welcome),
    agent.METRICS: (None, agent.AgentMetrics),
    storage.STORAGE_JOBS: (None, storage.JobListing),
    storage.TEMPLATE_LIST: (storage.TemplateListRequest, storage.TemplateListing),
    storage.STORAGE_SETUP: (storage.Store, storage.StoreStats),
    storage.STORAGE_RELEASE: (storage.Store, Acknowledgement),
    storage.STORAGE_BROWSE: (storage.BrowseRequest, storage.StoreObjects),
    storage.TEMPLATE_QUARANTINE: (storage.TemplateQuarantine, Acknowledgement),
    storage.TEMPLATE_DOWNLOAD: (storage.DownloadRequest, storage.DownloadStatus),
    source_networks.STORAGE_SOURCES: (source_networks.SourceNetworks, Acknowledgement),
    storage.TEMPLATE_COPY: (storage.CopyRequest, storage.DownloadStatus),
    storage.TEMPLATE_RESERVE: (storage.QuotaReservation, Acknowledgement),
    upload.TEMPLATE_UPLOAD: (upload.UploadRequest, storage.DownloadStatus),
    extract.EXTRACT_SETUP: (extract.ExtractSetup, Acknowledgement),
    extract.EXTRACT_PRESIGN: (extract.PresignRequest, extract.PresignedLink),
    extract.EXTRACT_LINKS: (extract.ExtractLinks, Acknowledgement),
    extract.EXTRACT_SERVED: (None, extract.ServedBytes),
    console.CONSOLE_LIST: (None, console.ConsoleSessions),
    console.CONSOLE_HOSTS: (console.ConsoleHosts, Acknowledgement),
    acme.CONSOLE_CHALLENGE: (acme.AcmeChallenges, Acknowledgement),
    acme.EXTRACT_CHALLENGE: (acme.AcmeChallenges, Acknowledgement),
    console.CONSOLE_CONFIGURE: (console.SessionLimits, Acknowledgement),
    console.CONSOLE_SCROLLBACK: (console.ConsoleTargetRequest, console.ConsoleScrollback),
    console.CONSOLE_RETARGET: (console.ConsoleRetarget, Acknowledgement),
    console.CONSOLE_DRAIN: (console.ConsoleDrain, Acknowledgement),
    console.CONSOLE_CLOSED: (console.ConsoleClosed, Acknowledgement),
    console.CONSOLE_END: (console.ConsoleEnd, Acknowledgement),
    console.CONSOLE_AUTHORIZE: (console.ConsoleAuthorize, console.ConsoleSession),
    console.CONSOLE_POWER: (console.ConsolePower, console.MachinePower),
    console.CONSOLE_TARGET: (console.ConsoleTargetRequest, console.ConsoleTarget),
    recording.CONSOLE_RECORDER: (None, Acknowledgement),
    recording.CONSOLE_RECORD: (recording.RecordedPiece, Acknowledgement),
    recording.CONSOLE_RECORDED: (recording.RecordedEnd, Acknowledgement),
    recording.RECORDING_APPEND: (recording.StoredPiece, recording.StoredSize),
    recording.RECORDING_READ: (recording.RecordingRange, recording.RecordingContent),
    recording.RECORDING_DELETE: (recording.RecordingPlace, Acknowledgement),
    snapshot.SNAPSHOT_WRITE: (snapshot.SnapshotPiece, Acknowledgement),
    snapshot.SNAPSHOT_PUBLISH: (snapshot.SnapshotEnd, Acknowledgement),
    snapshot.SNAPSHOT_ADOPT: (snapshot.SnapshotAdoption, Acknowledgement),
    snapshot.SNAPSHOT_DELETE: (snapshot.SnapshotPlace, Acknowledgement),
}


@pytest.mark.parametrize(
    "name",
    [
        "rpc_hello_v2.frames",
        "rpc_listings_v2.frames",
        "rpc_consoles_v2.frames",
        "rpc_stores_v3.frames",
        "rpc_buckets_v3.frames",
        "rpc_extract_v3.frames",
        "rpc_upload_v3.frames",
        "rpc_consoles_v3.frames",
        "rpc_sessions_v3.frames",
        "rpc_screens_v3.frames",
        "rpc_quota_v3.frames",
        "rpc_recordings_v3.frames",
        "rpc_snapshots_v3.frames",
        "rpc_challenges_v3.frames",
        "rpc_hosts_v3.frames",
        "rpc_serial_v3.frames",
        "rpc_metrics_v3.frames",
    ],
)  # fmt: skip
def test_both_ends_read_and_write_recorded_frames(name: str) -> None:
    open_calls: dict[tuple[str, Any], str] = {}
    for mark, line in lines(name):
        message = read(frame.decode(line))
        if isinstance(message, Request):
            params, _ = TYPES[message.method]
            open_calls[mark, message.id] = message.method
            if params is None:
                assert message.params is None
                continue
            value = msgspec.convert(message.params, params, strict=True)
            assert contains(msgspec.to_builtins(value), message.params)
            assert contains(message.to_wire(), msgspec.json.decode(line))
            continue
        assert isinstance(message, Response)
        other = "< " if mark == "> " else "> "
        method = open_calls.pop((other, message.id))
        if message.error is not None:
            assert message.error.reason
            assert contains(message.error.to_wire(), msgspec.json.decode(line)["error"])
            continue
        value = msgspec.convert(message.result, TYPES[method][1], strict=True)
        assert contains(msgspec.to_builtins(value), message.result)
    assert open_calls == {}, "every call is answered"
