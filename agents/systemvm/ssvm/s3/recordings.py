# SPDX-License-Identifier: Apache-2.0
"""Recordings of consoles in a bucket: pieces, because nothing is appended to an object.

Keys have the offset of a piece backwards, so that the first key of a listing is the last piece, and the first
one behind any offset is the piece which holds it: each is found by a listing of one key.
"""

from __future__ import annotations

import re

from attrs import frozen

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.recording_messages import RecordingContentRequest, RecordingKey, RecordingWrite
from systemvm.ssvm.s3 import answers, listing, requests
from systemvm.ssvm.s3.listing import Exchange
from systemvm.ssvm.store_messages import require_name, require_number
from systemvm.wire.recording import MAX_PIECE_BYTES, RecordingContent, RecordingRefusal, StoredSize
from systemvm.wire.transfer_failure import TransferFailure

RECORDINGS = "console-recordings/"
#: Larger than any offset; as many digits as each key has.
_LAST = 10**15 - 1
_NAME = re.compile(r"\d{15}")
#: A listing has so many keys, in case that some are not those of pieces.
_LISTED = 10


@frozen
class _Piece:
    key: str
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes


class BucketRecordings:
    """The recordings of one bucket; two writes of a recording must not run at the same time."""

    def __init__(self, server: Exchange) -> None:
        self._server = server

    def write(self, piece: RecordingWrite) -> StoredSize:
        """Write a piece where it belongs, however often it comes; small ones are joined.

        Raises: RpcError when bytes before it are missing, or the recording was deleted.
        """
        prefix, offset, data = _prefix(piece.account_id, piece.recording_id), piece.offset, piece.data
        last = self._find(prefix)
        if last is None:
            # a recording begins with its first piece only: one that was deleted must not come back
            if offset:
                raise RpcError.refused(RecordingRefusal.UNKNOWN, "recording is not on its store")
            last = _Piece(_key(prefix, 0), 0, 0)
        if offset > last.end:
            raise RpcError.refused(
                RecordingRefusal.GAP,
                f"recording has {last.end} bytes, and the piece begins at {offset}",
            )
        end = offset + len(data)
        if end <= last.end:
            return StoredSize(last.end)
        if offset < last.offset:  # what is before the last piece is stored
            offset, data = last.offset, data[last.offset - offset :]
        if end - last.offset <= MAX_PIECE_BYTES:
            before = self._content(last) if last.size_bytes else b""
            offset, data = last.offset, before[: offset - last.offset] + data
        listing.put(self._server, _key(prefix, offset), data)
        return StoredSize(end)

    def read(self, request: RecordingContentRequest) -> RecordingContent:
        """Return a part of a recording, and the size of the whole.

        Raises: TransferError `lost` when it is not in the bucket.
        """
        prefix = _prefix(request.account_id, request.recording_id)
        last = self._find(prefix)
        if last is None:
            raise _lost()
        begin = max(0, request.offset)
        end = min(last.end, begin + min(max(0, request.count), MAX_PIECE_BYTES))
        found, at = bytearray(), begin
        while at < end:
            piece = last if at >= last.offset else self._find(prefix, at)
            if piece is None or at >= piece.end:
                raise _lost()
            part = self._content(piece)[at - piece.offset : end - piece.offset]
            if not part:
                raise _lost()
            found += part
            at += len(part)
        return RecordingContent(bytes(found), last.end)

    def remove(self, key: RecordingKey) -> None:
        """Remove a recording, if it is there; a removal that breaks off is repeated."""
        for each in list(listing.objects(self._server, _prefix(key.account_id, key.recording_id))):
            listing.delete(self._server, each.key)

    def _find(self, prefix: str, offset: int = _LAST - 1) -> _Piece | None:
        """Return the last piece that begins at or before an offset."""
        after = _key(prefix, offset + 1)
        page = self._server.exchange(
            requests.list_objects(prefix, after=after, max_keys=_LISTED), answers.read_objects
        )
        for each in page.objects:
            name = each.key.removeprefix(prefix)
            if _NAME.fullmatch(name):
                return _Piece(each.key, _LAST - int(name), each.size_bytes)
        return None

    def _content(self, piece: _Piece) -> bytes:
        answer = listing.get(self._server, piece.key)
        if answer is None:
            raise _lost()
        return answer.body


def _prefix(account_id: int, recording_id: str) -> str:
    return f"{RECORDINGS}{require_number(account_id)}/{require_name(recording_id)}/"


def _key(prefix: str, offset: int) -> str:
    return f"{prefix}{_LAST - offset:015}"


def _lost() -> TransferError:
    return TransferError(TransferFailure.LOST, "recording is not on its store")
