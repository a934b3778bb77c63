# SPDX-License-Identifier: Apache-2.0
"""The store helper's messages about recordings of consoles: numbers and checked names, never paths."""

from __future__ import annotations

from attrs import field, frozen

RECORDING_WRITE = "store.recording_write"  # agent: a piece where it belongs
RECORDING_CONTENT = "store.recording_content"  # agent: a part of the file
RECORDING_REMOVE = "store.recording_remove"  # agent


@frozen
class RecordingKey:
    """The file of one recording on one store."""

    mount_id: str
    account_id: int
    recording_id: str


@frozen
class RecordingWrite:
    mount_id: str
    account_id: int
    recording_id: str
    offset: int
    data: bytes = field(repr=False)


@frozen
class RecordingContentRequest:
    mount_id: str
    account_id: int
    recording_id: str
    offset: int
    count: int


def recording_changes(request: RecordingKey | RecordingWrite) -> frozenset[str]:
    """Return keys of what a call changes: two calls with a key in common must not run at the same time."""
    return frozenset({f"recording {request.mount_id} {request.recording_id}"})
