# SPDX-License-Identifier: Apache-2.0
"""An image that becomes an object of a bucket: one part in memory, sent when it is full, until it is stored.

A part is kept until the server has confirmed its MD5, so that it can be sent again whatever breaks; the image
is staged nowhere. Parts that an earlier mover has stored are compared and not sent again.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.s3 import answers, failure, requests
from systemvm.ssvm.s3.answers import S3Answer
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.listing import Exchange
from systemvm.ssvm.s3.requests import MAX_PART_NUMBER, UploadedPart
from systemvm.wire.transfer_failure import TransferFailure

_MD5 = re.compile(r"[0-9a-f]{32}")


class S3Object:
    """Takes an image in order; it is there, whole and checked, after `finish`, and not at all before."""

    def __init__(
        self,
        server: Exchange,
        key: str,
        part_bytes: int,
        max_parts: int = MAX_PART_NUMBER,
    ) -> None:
        self._server = server
        self._key = key
        self._max_parts = max_parts
        self._buffer = bytearray(part_bytes)
        self._filled = 0
        self._upload_id = ""
        self._earlier: dict[int, UploadedPart] = {}  # of an earlier mover
        self._parts: list[UploadedPart] = []
        self._digests = hashlib.md5(usedforsecurity=False)  # over the digests of the parts
        self._is_encrypted = False  # by the server, so that entity tags are not MD5
        self.etag = ""  # of the object, once it is there
        self.size_bytes = 0
        self.written_bytes = 0  # sent: without parts that were there

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`.

        Raises: TransferError when the store fails.
        """
        view = memoryview(data)
        while view:
            count = min(len(view), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + count] = view[:count]
            self._filled += count
            self.size_bytes += count
            view = view[count:]
            if self._filled == len(self._buffer):
                self._send_part()

    @property
    def part_bytes(self) -> int:
        return len(self._buffer)

    @property
    def pending_bytes(self) -> int:
        """The size of the part in memory."""
        return self._filled

    @property
    def stored(self) -> tuple[str, list[UploadedPart]]:
        """The upload and its parts so far."""
        return self._upload_id, self._parts

    def flush(self) -> None:
        """Send the part in memory as it is; only the last one of an image can be smaller than 5 MiB."""
        if self._filled:
            self._send_part()

    def resume(self, upload_id: str, parts: list[UploadedPart]) -> None:
        """Continue behind these parts of an upload."""
        self._upload_id, self._parts = upload_id, list(parts)
        self.size_bytes = sum(part.size_bytes for part in parts)
        for part in parts:
            if _MD5.fullmatch(part.etag.lower()):
                self._digests.update(bytes.fromhex(part.etag))
            else:
                self._is_encrypted = True

    def restart(self) -> None:
        """Begin again at the first byte."""
        self._upload_id, self._parts, self._filled, self.size_bytes = "", [], 0, 0
        self._digests = hashlib.md5(usedforsecurity=False)

    def parts_of(self, upload_id: str) -> list[UploadedPart]:
        """Return the parts of an upload from the first to a gap; none of an upload that has ended."""
        try:
            found = self._list_parts(upload_id)
        except S3Error as error:
            if error.is_missing:
                return []
            raise
        parts: list[UploadedPart] = []
        while (part := found.get(len(parts) + 1)) is not None:
            parts.append(part)
        return parts

    def finish(self) -> None:
        """Store the rest, complete the object, and check its size and entity tag.

        Raises: TransferError when the store fails, or the object is another one.
        """
        if not self._upload_id:
            etag = self._put_whole()
        else:
            if self._filled:
                self._send_part()
            etag = self._complete()
        self._check(etag)

    def close(self) -> None:
        """There is nothing to end: parts that are stored wait for the next mover."""

    def abort(self) -> None:
        """Discard all parts, also those of earlier movers; what fails here is repeated by the next one."""
        try:
            for upload_id in self._unfinished_uploads():
                self._abort_upload(upload_id)
        except TransferError:
            return

    def _send_part(self) -> None:
        if not self._upload_id:
            self._begin()
        number = len(self._parts) + 1
        if number > self._max_parts:
            raise TransferError(
                TransferFailure.TOO_LARGE,
                f"image is too large for the S3 store: more than {self._max_parts} parts of"
                f" {len(self._buffer)} bytes",
                "use a smaller image, or an NFS store",
            )
        with memoryview(self._buffer)[: self._filled] as body:
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            part = self._stored_earlier(number, digest) or self._upload(number, body, digest)
        self._parts.append(part)
        self._digests.update(digest)
        self._filled = 0

    def _stored_earlier(self, number: int, digest: bytes) -> UploadedPart | None:
        part = self._earlier.get(number)
        if part is None or part.size_bytes != self._filled or part.etag.lower() != digest.hex():
            return None
        return part

    def _upload(self, number: int, body: memoryview, digest: bytes) -> UploadedPart:
        def read(answer: S3Answer) -> UploadedPart:
            self._is_encrypted = self._is_encrypted or answers.is_encrypted(answer)
            return answers.read_part(answer, number, len(body), digest.hex())

        request = requests.upload_part(self._key, self._upload_id, number, body, digest)
        part = self._server.exchange(request, read)
        self.written_bytes += len(body)
        return part

    def _begin(self) -> None:
        """Continue the latest unfinished upload of this key, or begin one; others are discarded."""
        *outdated, latest = ["", *self._unfinished_uploads()]
        for upload_id in filter(None, outdated):
            self._abort_upload(upload_id)
        if latest:
            self._earlier = self._list_parts(latest)
            self._upload_id = latest
        else:
            self._upload_id = self._server.exchange(requests.create_upload(self._key), answers.read_upload_id)

    def _unfinished_uploads(self) -> list[str]:
        """Return the ids of uploads of this very key, the latest one last."""
        found: list[tuple[str, str]] = []
        key_marker = upload_marker = ""
        while True:
            request = requests.list_uploads(self._key, key_marker, upload_marker)
            page = self._server.exchange(request, answers.read_uploads)
            found += [(each.initiated, each.upload_id) for each in page.uploads if each.key == self._key]
            if not page.next_key or (page.next_key, page.next_upload) == (key_marker, upload_marker):
                return [upload_id for _, upload_id in sorted(found)]
            key_marker, upload_marker = page.next_key, page.next_upload

    def _list_parts(self, upload_id: str) -> dict[int, UploadedPart]:
        found: dict[int, UploadedPart] = {}
        after = 0
        while True:
            page = self._server.exchange(requests.list_parts(self._key, upload_id, after), answers.read_parts)
            found |= {part.number: part for part in page.parts}
            if page.next_number <= after:
                return found
            after = page.next_number

    def _abort_upload(self, upload_id: str) -> None:
        def read(answer: S3Answer) -> None:
            answers.require_success(answer, "to discard an upload")

        try:
            self._server.exchange(requests.abort_upload(self._key, upload_id), read)
        except S3Error as error:
            if not error.is_missing:
                raise

    def _put_whole(self) -> str:
        """Store an image that is one part by one request."""
        with memoryview(self._buffer)[: self._filled] as body:
            md5_hex = hashlib.md5(body, usedforsecurity=False).hexdigest()

            def read(answer: S3Answer) -> str:
                self._is_encrypted = answers.is_encrypted(answer)
                return answers.read_part(answer, 1, self._filled, md5_hex).etag

            etag = self._server.exchange(requests.put_object(self._key, body), read)
        self.written_bytes += self._filled
        for upload_id in self._unfinished_uploads():
            self._abort_upload(upload_id)
        return etag

    def _complete(self) -> str:
        request = requests.complete_upload(self._key, self._upload_id, self._parts)
        try:
            return self._server.exchange(request, answers.read_completed)
        except S3Error as error:
            if not error.is_missing:
                raise
        return ""  # the answer to an earlier attempt was lost: the check decides whether that has succeeded

    def _check(self, etag: str) -> None:
        """Compare the object with what was sent; another one is not left under this key."""
        head = self._server.exchange(
            requests.head_object(self._key), lambda answer: answers.read_head(answer, self._key)
        )
        if self._parts and not self._is_encrypted:
            expected = f"{self._digests.hexdigest()}-{len(self._parts)}"
        else:
            expected = etag or head.etag
        is_same = hmac.compare_digest(head.etag.lower(), expected.lower())
        if head.size_bytes == self.size_bytes and is_same:
            self.etag = head.etag
            return
        self._server.exchange(
            requests.delete_object(self._key),
            lambda answer: answers.require_success(answer, "to delete an object"),
        )
        raise failure.invalid(
            "a finished upload",
            f"object has {head.size_bytes} bytes and the ETag {head.etag},"
            f" {self.size_bytes} bytes and {expected} were sent",
        )
