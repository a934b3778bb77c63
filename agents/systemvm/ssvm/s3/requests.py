# SPDX-License-Identifier: Apache-2.0
"""Requests to a bucket: objects, their listing, and multipart uploads (Amazon S3 API Reference, Actions)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime

from attrs import field, frozen

from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.ssvm.s3.signing import Signer, canonical_query

#: Bounds of a multipart upload; the last part has no minimum.
MIN_PART_BYTES, MAX_PART_NUMBER = 5 << 20, 10_000
_PAGE_KEYS = 1000

Payload = bytes | bytearray | memoryview


@frozen
class S3Request:
    """One request, not yet signed; a missing answer is an error of the object, not of the store."""

    method: str
    key: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: dict[str, str] = field(factory=dict)
    body: Payload = field(default=b"", repr=False)

    def target(self, endpoint: S3Endpoint) -> str:
        """Return the request target: path and query."""
        query = canonical_query(self.query)
        return endpoint.path(self.key) + (f"?{query}" if query else "")

    def signed_headers(self, endpoint: S3Endpoint, signer: Signer, now: datetime) -> dict[str, str]:
        """Return all headers; the signature covers the digest of the body, too."""
        digest = hashlib.sha256(self.body).hexdigest()
        headers = {**self.headers, "host": endpoint.authority, "x-amz-content-sha256": digest}
        if self.body or self.method in ("PUT", "POST"):
            headers["content-length"] = str(len(self.body))
        return signer.headers(self.method, endpoint.path(self.key), self.query, headers, digest, now)


@frozen
class UploadedPart:
    """A part that the server has stored; `etag` is without its quotation marks."""

    number: int
    etag: str
    size_bytes: int


def create_upload(key: str, content_type: str = "application/octet-stream") -> S3Request:
    return S3Request("POST", key, (("uploads", ""),), {"content-type": content_type})


def upload_part(key: str, upload_id: str, number: int, body: Payload, md5: bytes) -> S3Request:
    """Return the request that stores one part; the server compares `md5`, the digest of `body`."""
    query = (("partNumber", str(number)), ("uploadId", upload_id))
    return S3Request("PUT", key, query, {"content-md5": base64.b64encode(md5).decode()}, body)


def complete_upload(key: str, upload_id: str, parts: Iterable[UploadedPart]) -> S3Request:
    """Return the request that makes one object of the parts, in this order."""
    listed = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{_escape(part.etag)}&quot;</ETag></Part>"
        for part in parts
    )
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    body = f'<CompleteMultipartUpload xmlns="{namespace}">{listed}</CompleteMultipartUpload>'
    return S3Request(
        "POST", key, (("uploadId", upload_id),), {"content-type": "application/xml"}, body.encode()
    )


def abort_upload(key: str, upload_id: str) -> S3Request:
    return S3Request("DELETE", key, (("uploadId", upload_id),))


def list_parts(key: str, upload_id: str, after_number: int = 0) -> S3Request:
    query = [("uploadId", upload_id), ("max-parts", str(_PAGE_KEYS))]
    if after_number:
        query.append(("part-number-marker", str(after_number)))
    return S3Request("GET", key, tuple(query))


def list_uploads(prefix: str, key_marker: str = "", upload_marker: str = "") -> S3Request:
    """Return the request for the unfinished uploads of keys that begin with `prefix`."""
    query = [("uploads", ""), ("prefix", prefix), ("max-uploads", str(_PAGE_KEYS))]
    if key_marker:
        query += [("key-marker", key_marker), ("upload-id-marker", upload_marker)]
    return S3Request("GET", "", tuple(query))


def head_object(key: str) -> S3Request:
    return S3Request("HEAD", key)


def get_object(key: str, first_byte: int | None = None, last_byte: int | None = None) -> S3Request:
    """Return the request for an object, or for its bytes from the first to the last one, inclusive."""
    if first_byte is None:
        return S3Request("GET", key)
    last = "" if last_byte is None else str(last_byte)
    return S3Request("GET", key, (), {"range": f"bytes={first_byte}-{last}"})


def put_object(key: str, body: Payload, content_type: str = "application/octet-stream") -> S3Request:
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    headers = {"content-type": content_type, "content-md5": base64.b64encode(digest).decode()}
    return S3Request("PUT", key, (), headers, body)


def delete_object(key: str) -> S3Request:
    return S3Request("DELETE", key)


def list_objects(
    prefix: str,
    delimiter: str = "",
    continuation: str = "",
    *,
    after: str = "",
    max_keys: int = _PAGE_KEYS,
) -> S3Request:
    """Return the request for a page of keys; with a delimiter, keys behind it are one common prefix."""
    query = [("list-type", "2"), ("prefix", prefix), ("max-keys", str(max_keys))]
    if after:
        query.append(("start-after", after))
    if delimiter:
        query.append(("delimiter", delimiter))
    if continuation:
        query.append(("continuation-token", continuation))
    return S3Request("GET", "", tuple(query))


def presigned_get(endpoint: S3Endpoint, signer: Signer, key: str, expires_s: int, now: datetime) -> str:
    """Return a link by which anyone can download the object for `expires_s` seconds."""
    path = endpoint.path(key)
    return f"{endpoint.origin}{path}?{signer.presigned_query(path, (), endpoint.authority, expires_s, now)}"


def _escape(text: str) -> str:
    """Return text for an element; xml.sax.saxutils would import urllib.request into every mover."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
