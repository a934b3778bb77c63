# SPDX-License-Identifier: Apache-2.0
"""A bucket in memory, which can encrypt, lose answers, list by pages and lie; tests/s3 has a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

from attrs import define, field

from systemvm.ssvm.s3 import bounded_xml
from systemvm.ssvm.s3.answers import S3Answer
from systemvm.ssvm.s3.requests import S3Request

_Result = TypeVar("_Result")
KEY = "template/tmpl/2/201/a.qcow2"


@define
class FakeBucket:
    """Answers as S3 does, as far as these tests need it."""

    is_encrypted: bool = False
    wrong_etag: bool = False
    completion: str = ""  # an error instead of the answer, after the object was made
    objects: dict[str, bytes] = field(factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(factory=dict)  # of KEY, one on each page of a listing
    etags: dict[str, str] = field(factory=dict)
    modified: str = "2026-11-01T00:00:00.000Z"  # of every object
    log: list[str] = field(factory=list)

    @property
    def content(self) -> bytes | None:
        return self.objects.get(KEY)

    def exchange(self, request: S3Request, read: Callable[[S3Answer], _Result]) -> _Result:
        query = dict(request.query)
        if request.key in ("", KEY):
            self.log.append(f"{request.method} {query.get('partNumber', query.get('uploadId', ''))}".strip())
        return read(self._answer(request, query))

    def _answer(self, request: S3Request, query: dict[str, str]) -> S3Answer:
        key, body, upload_id = request.key, bytes(request.body), query.get("uploadId")
        if upload_id is not None and upload_id not in self.uploads:
            return _document("Error", "<Code>NoSuchUpload</Code>", 404)
        match request.method:
            case "GET" if upload_id is not None:
                return self._part_list(upload_id)
            case "GET" if "uploads" in query:
                return self._upload_list(int(query.get("upload-id-marker", "0")))
            case "GET" if query.get("list-type") == "2":
                return self._object_list(query)
            case "GET" | "HEAD":
                if key not in self.objects:
                    return S3Answer(404, {})
                size = str(len(self.objects[key]))
                headers = {"content-length": size, "etag": self._tag(key), **self._encryption()}
                return S3Answer(200, headers, self.objects[key] if request.method == "GET" else b"")
            case "PUT" if upload_id is not None:
                self.uploads[upload_id][int(query["partNumber"])] = body
                return self._stored(body)
            case "PUT":
                answer = self._stored(body)
                self.objects[key], self.etags[key] = body, answer.headers["etag"]
                return answer
            case "POST" if "uploads" in query:
                name = f"new{len(self.uploads)}"
                self.uploads[name] = {}
                return _document("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>")
            case "POST":
                assert upload_id is not None
                return self._complete(upload_id, body)
        if upload_id is not None:
            del self.uploads[upload_id]
        else:
            self.objects.pop(key, None)
        return S3Answer(204, {})

    def _encryption(self) -> dict[str, str]:
        return {"x-amz-server-side-encryption": "aws:kms"} if self.is_encrypted else {}

    def _etag(self, body: bytes) -> str:
        return f"opaque{len(body)}" if self.is_encrypted else hashlib.md5(body).hexdigest()

    def _stored(self, body: bytes) -> S3Answer:
        return S3Answer(200, {"etag": f'"{self._etag(body)}"', **self._encryption()})

    def _tag(self, key: str) -> str:
        return self.etags.get(key, self._etag(self.objects[key]))

    def _object_list(self, query: dict[str, str]) -> S3Answer:
        """Return two objects on each page, so that a listing has several."""
        prefix, after = query["prefix"], query.get("continuation-token") or query.get("start-after", "")
        found, prefixes = [], set()
        for key in sorted(self.objects):
            if not key.startswith(prefix) or key <= after:
                continue
            name, separator, _ = key[len(prefix) :].partition("/")
            if separator and query.get("delimiter"):
                prefixes.add(f"{prefix}{name}/")
            else:
                found.append(key)
        page = found[:2]
        listed = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self.objects[key])}</Size><ETag>{self._tag(key)}</ETag>"
            f"<LastModified>{self.modified}</LastModified></Contents>"
            for key in page
        )
        for each in sorted(prefixes):
            listed += f"<CommonPrefixes><Prefix>{each}</Prefix></CommonPrefixes>"
        if len(found) > len(page):
            token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>"
            listed += f"<IsTruncated>true</IsTruncated>{token}"
        return _document("ListBucketResult", listed)

    def _part_list(self, upload_id: str) -> S3Answer:
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{self._etag(body)}</ETag>"
            f"<Size>{len(body)}</Size></Part>"
            for number, body in self.uploads[upload_id].items()
        )
        return _document("ListPartsResult", listed)

    def _upload_list(self, page: int) -> S3Answer:
        if page >= len(self.uploads):
            return _document("ListMultipartUploadsResult", "")
        upload = f"<Key>{KEY}</Key><UploadId>{list(self.uploads)[page]}</UploadId>"
        other = f"<Upload><Key>{KEY}.other</Key><UploadId>other</UploadId></Upload>"
        marker = f"<NextKeyMarker>{KEY}</NextKeyMarker><NextUploadIdMarker>{page + 1}</NextUploadIdMarker>"
        return _document(
            "ListMultipartUploadsResult",
            f"<Upload>{upload}<Initiated>{page}</Initiated></Upload>{other}"
            f"<IsTruncated>true</IsTruncated>{marker}",
        )

    def _complete(self, upload_id: str, body: bytes) -> S3Answer:
        parts = self.uploads.pop(upload_id)
        numbers = [int(each.text_of("PartNumber") or "") for each in bounded_xml.parse(body).all("Part")]
        self.objects[KEY] = b"".join(parts[number] for number in numbers)
        digests = b"".join(hashlib.md5(parts[number]).digest() for number in numbers)
        self.etags[KEY] = f"{hashlib.md5(digests).hexdigest()}-{len(numbers)}"
        if self.is_encrypted or self.wrong_etag:
            self.etags[KEY] = "opaque-2"
        if self.completion:
            return _document("Error", f"<Code>{self.completion}</Code>")
        return _document("CompleteMultipartUploadResult", f"<ETag>{self.etags[KEY]}</ETag>")


def _document(name: str, body: str, status: int = 200) -> S3Answer:
    return S3Answer(status, {}, f"<{name}>{body}</{name}>".encode())
