# SPDX-License-Identifier: Apache-2.0
"""Recordings as a CPVM orders, delivers and ends them, and an SSVM that stores them."""

from __future__ import annotations

import base64
from typing import Any

from console_tokens import authorize, new_token, target
from small_cloud import SmallCloud
from systemvm.management.state.instances import Instance
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import (
    CONSOLE_RECORD,
    CONSOLE_RECORDED,
    RECORDING_APPEND,
    RECORDING_DELETE,
    RECORDING_READ,
    RecordingContent,
    RecordingOrder,
    StoredPiece,
    StoredSize,
)


class StoredFiles:
    """What an SSVM does with recordings, in memory."""

    def __init__(self, cloud: SmallCloud) -> None:
        self.files: dict[str, bytes] = {}
        cloud.ssvm_peer.answers[RECORDING_APPEND] = self.append
        cloud.ssvm_peer.answers[RECORDING_READ] = self.read
        cloud.ssvm_peer.answers[RECORDING_DELETE] = self.delete

    def append(self, piece: StoredPiece) -> StoredSize:
        before = self.files.get(piece.recording_id, b"")
        self.files[piece.recording_id] = before[: piece.offset] + piece.data
        return StoredSize(len(self.files[piece.recording_id]))

    def read(self, wanted: Any) -> RecordingContent:
        file = self.files[wanted.recording_id]
        return RecordingContent(file[wanted.offset : wanted.offset + wanted.count], len(file))

    def delete(self, place: Any) -> Acknowledgement:
        self.files.pop(place.recording_id, None)
        return Acknowledgement()


async def setting(cloud: SmallCloud, name: str, value: str) -> None:
    await cloud.call("updateConfiguration", name=f"consoleproxy.recording.{name}", value=value)


async def ordered(cloud: SmallCloud, vm: Instance) -> RecordingOrder | None:
    """Open a console of a VM, and return the order to record it."""
    session = await authorize(cloud, await new_token(cloud, vm))
    order: RecordingOrder | None = (await target(cloud, session.session_id)).recording
    assert session.is_recorded == (order is not None)
    return order


async def recorded(cloud: SmallCloud, vm: Instance, data: bytes = b"a recording") -> str:
    """Have a connection recorded completely; return the recording's id."""
    await setting(cloud, "enabled", "true")
    order = await ordered(cloud, vm)
    assert order is not None
    await deliver(cloud, order.recording_id, 0, data)
    await end(cloud, order.recording_id, "complete")
    return order.recording_id


async def deliver(cloud: SmallCloud, recording_id: str, offset: int, data: bytes) -> None:
    piece = {"recording_id": recording_id, "offset": offset, "data": base64.b64encode(data).decode()}
    await cloud.from_agent(cloud.cpvm, CONSOLE_RECORD, piece)


async def end(cloud: SmallCloud, recording_id: str, code: str) -> None:
    await cloud.from_agent(cloud.cpvm, CONSOLE_RECORDED, {"recording_id": recording_id, "code": code})


async def listed(cloud: SmallCloud, *who: Any, **which: Any) -> list[dict[str, Any]]:
    found = await cloud.call("listConsoleRecordings", *who, **which)
    return list(found.get("consolerecording", []))
