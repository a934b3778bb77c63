# SPDX-License-Identifier: Apache-2.0
"""What is in a bucket: every object and unfinished upload below a prefix, whatever the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from systemvm.ssvm.s3 import answers, requests
from systemvm.ssvm.s3.answers import ObjectSummary, S3Answer, UnfinishedUpload
from systemvm.ssvm.s3.failure import S3Error
from systemvm.ssvm.s3.requests import S3Request

_Result = TypeVar("_Result")


class Exchange(Protocol):
    """What these need of an S3Connection."""

    def exchange(self, request: S3Request, read: Callable[[S3Answer], _Result]) -> _Result: ...


def objects(server: Exchange, prefix: str, after: str = "") -> Iterator[ObjectSummary]:
    """Yield the objects below a prefix in order of their keys, those behind `after`.

    Raises: TransferError when a page cannot be read: a part of a listing is none.
    """
    continuation = ""
    while True:
        request = requests.list_objects(prefix, continuation=continuation, after=after)
        page = server.exchange(request, answers.read_objects)
        yield from page.objects
        if not page.continuation:
            return
        continuation = page.continuation


def uploads(server: Exchange, prefix: str) -> Iterator[UnfinishedUpload]:
    """Yield the unfinished uploads of keys that begin with a prefix."""
    key_marker = upload_marker = ""
    while True:
        request = requests.list_uploads(prefix, key_marker, upload_marker)
        page = server.exchange(request, answers.read_uploads)
        yield from page.uploads
        if not page.next_key or (page.next_key, page.next_upload) == (key_marker, upload_marker):
            return
        key_marker, upload_marker = page.next_key, page.next_upload


def get(server: Exchange, key: str) -> S3Answer | None:
    """Return a small object; None when there is none."""

    def read(answer: S3Answer) -> S3Answer:
        answers.require_success(answer, "an object")
        return answer

    return _unless_missing(lambda: server.exchange(requests.get_object(key), read))


def head(server: Exchange, key: str) -> ObjectSummary | None:
    """Return what describes an object; None when there is none."""
    return _unless_missing(
        lambda: server.exchange(requests.head_object(key), lambda answer: answers.read_head(answer, key))
    )


def put(server: Exchange, key: str, content: bytes) -> None:
    """Store a small object."""
    server.exchange(
        requests.put_object(key, content),
        lambda answer: answers.require_success(answer, "to store an object"),
    )


def delete(server: Exchange, key: str) -> None:
    """Delete an object; one that is not there is no failure."""

    def read(answer: S3Answer) -> None:
        answers.require_success(answer, "to delete an object")

    _unless_missing(lambda: server.exchange(requests.delete_object(key), read))


def abort(server: Exchange, upload: UnfinishedUpload) -> None:
    """Discard the parts of an upload; one that has ended is no failure."""

    def read(answer: S3Answer) -> None:
        answers.require_success(answer, "to discard an upload")

    _unless_missing(lambda: server.exchange(requests.abort_upload(upload.key, upload.upload_id), read))


def _unless_missing(call: Callable[[], _Result]) -> _Result | None:
    try:
        return call()
    except S3Error as error:
        if error.is_missing:
            return None
        raise
