# SPDX-License-Identifier: Apache-2.0
"""Answers of an S3 server, each checked for its status, its document and the bounds of its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

from attrs import frozen

from systemvm.ssvm.s3 import bounded_xml, failure
from systemvm.ssvm.s3.bounded_xml import XmlElement, XmlError
from systemvm.ssvm.s3.requests import MAX_PART_NUMBER, UploadedPart

MAX_KEY_BYTES = 1024
_NUMBER = re.compile(r"\d{1,19}")
_UPLOAD_ID = re.compile(r"[\x21-\x7e]{1,1024}")
_ETAG = re.compile(r"[\x21\x23-\x7e]{1,256}")


@frozen
class S3Answer:
    """A response; names of headers are in lower case, `body` is complete and bounded by the reader."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@frozen
class ObjectSummary:
    """An object as HEAD or a listing describes it."""

    key: str
    size_bytes: int
    etag: str
    modified_unix_s: float = 0.0  # by the server's clock; 0 when it does not say


@frozen
class UnfinishedUpload:
    key: str
    upload_id: str
    initiated: str  # ISO 8601: later ones sort behind earlier ones


@frozen
class ObjectPage:
    objects: tuple[ObjectSummary, ...]
    prefixes: tuple[str, ...]
    continuation: str  # of the next page; empty on the last one


@frozen
class UploadPage:
    uploads: tuple[UnfinishedUpload, ...]
    next_key: str  # empty on the last page
    next_upload: str


@frozen
class PartPage:
    parts: tuple[UploadedPart, ...]
    next_number: int  # 0 on the last page


def require_success(answer: S3Answer, doing: str) -> None:
    """Check the status, and read the reason of an error.

    Raises: S3Error unless the status is 2xx.
    """
    if not 200 <= answer.status < 300:
        raise failure.of_answer(doing, answer.status, _error_code(answer.body))


def read_upload_id(answer: S3Answer) -> str:
    """Return the id of a new multipart upload."""
    doing = "a multipart upload"
    upload_id = _document(answer, doing, "InitiateMultipartUploadResult").text_of("UploadId") or ""
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise failure.invalid(doing, "it has no UploadId", answer.status)
    return upload_id


def read_part(answer: S3Answer, number: int, size_bytes: int, md5_hex: str) -> UploadedPart:
    """Return the stored part.

    Raises: S3Error when the server stored other bytes. Encryption with a key of its own makes the entity tag
    something else than the MD5; then the digests in the request are what the server has compared.
    """
    doing = f"part {number} of an upload"
    require_success(answer, doing)
    etag = read_etag(answer, doing)
    if not is_encrypted(answer) and etag.lower() != md5_hex:
        raise failure.of_answer(doing, answer.status, "BadDigest")
    return UploadedPart(number, etag, size_bytes)


def read_completed(answer: S3Answer) -> str:
    """Return the entity tag of the object that an upload became; an error can follow status 200."""
    doing = "to complete an upload"
    etag = _document(answer, doing, "CompleteMultipartUploadResult").text_of("ETag") or ""
    return _require_etag(etag, doing, answer.status)


def read_head(answer: S3Answer, key: str) -> ObjectSummary:
    """Return the object that a HEAD describes."""
    doing = "the head of an object"
    require_success(answer, doing)
    size_bytes, etag = _number(answer.headers.get("content-length"), doing), read_etag(answer, doing)
    return ObjectSummary(key, size_bytes, etag, _http_date(answer.headers.get("last-modified", "")))


def read_parts(answer: S3Answer) -> PartPage:
    """Return a page of the parts of an unfinished upload."""
    doing = "the list of parts"
    root = _document(answer, doing, "ListPartsResult")
    parts = []
    for each in root.all("Part"):
        number = _number(each.text_of("PartNumber"), doing)
        if not 1 <= number <= MAX_PART_NUMBER:
            raise failure.invalid(doing, f"a part has number {number}", answer.status)
        etag = _require_etag(each.text_of("ETag") or "", doing, answer.status)
        parts.append(UploadedPart(number, etag, _number(each.text_of("Size"), doing)))
    truncated = root.text_of("IsTruncated") == "true"
    return PartPage(tuple(parts), _number(root.text_of("NextPartNumberMarker"), doing) if truncated else 0)


def read_uploads(answer: S3Answer) -> UploadPage:
    """Return a page of unfinished uploads."""
    doing = "the list of uploads"
    root = _document(answer, doing, "ListMultipartUploadsResult")
    uploads = []
    for each in root.all("Upload"):
        upload_id = each.text_of("UploadId") or ""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise failure.invalid(doing, "an upload has no UploadId", answer.status)
        key = _key(each.text_of("Key"), root, doing)
        uploads.append(UnfinishedUpload(key, upload_id, each.text_of("Initiated") or ""))
    if root.text_of("IsTruncated") != "true":
        return UploadPage(tuple(uploads), "", "")
    marker = _key(root.text_of("NextKeyMarker"), root, doing)
    return UploadPage(tuple(uploads), marker, root.text_of("NextUploadIdMarker") or "")


def read_objects(answer: S3Answer) -> ObjectPage:
    """Return a page of a listing of version 2."""
    doing = "the list of objects"
    root = _document(answer, doing, "ListBucketResult")
    objects = tuple(
        ObjectSummary(
            _key(each.text_of("Key"), root, doing),
            _number(each.text_of("Size"), doing),
            (each.text_of("ETag") or "").strip('"'),
            iso_date(each.text_of("LastModified") or ""),
        )
        for each in root.all("Contents")
    )
    prefixes = tuple(_key(each.text_of("Prefix"), root, doing) for each in root.all("CommonPrefixes"))
    if root.text_of("IsTruncated") != "true":
        return ObjectPage(objects, prefixes, "")
    continuation = root.text_of("NextContinuationToken") or ""
    if not continuation:  # or the listing would begin again for ever
        raise failure.invalid(doing, "it is truncated and has no NextContinuationToken", answer.status)
    return ObjectPage(objects, prefixes, continuation)


def read_etag(answer: S3Answer, doing: str) -> str:
    return _require_etag(answer.headers.get("etag", ""), doing, answer.status)


def is_encrypted(answer: S3Answer) -> bool:
    """Whether the server encrypts so that an entity tag is not the MD5 of the bytes."""
    names = answer.headers
    by_key_service = names.get("x-amz-server-side-encryption", "AES256") != "AES256"
    return by_key_service or "x-amz-server-side-encryption-customer-algorithm" in names


def _document(answer: S3Answer, doing: str, name: str) -> XmlElement:
    require_success(answer, doing)
    try:
        root = bounded_xml.parse(answer.body)
    except XmlError as error:
        raise failure.invalid(doing, error.message, answer.status) from None
    if root.name == "Error":
        raise failure.of_answer(doing, answer.status, root.text_of("Code"))
    if root.name != name:
        raise failure.invalid(doing, "it is another document", answer.status)
    return root


def _error_code(body: bytes) -> str | None:
    try:
        root = bounded_xml.parse(body)
    except XmlError:
        return None  # HEAD has no body, and proxies send HTML
    return root.text_of("Code") if root.name == "Error" else None


def iso_date(text: str) -> float:
    """Return the time of an ISO 8601 text; 0 when it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _http_date(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _number(text: str | None, doing: str) -> int:
    if text is None or not _NUMBER.fullmatch(text.strip()):
        raise failure.invalid(doing, "a number is missing")
    return int(text)


def _key(text: str | None, root: XmlElement, doing: str) -> str:
    key = text or ""
    if root.text_of("EncodingType") == "url":
        key = unquote(key)
    if not key or len(key.encode()) > MAX_KEY_BYTES:
        raise failure.invalid(doing, "a key is missing or too long")
    return key


def _require_etag(text: str, doing: str, status: int) -> str:
    etag = text.strip().strip('"')
    if not _ETAG.fullmatch(etag):
        raise failure.invalid(doing, "it has no ETag", status)
    return etag
