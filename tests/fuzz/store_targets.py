# SPDX-License-Identifier: Apache-2.0
"""What an S3 server answers: documents, and headers."""

from __future__ import annotations

from fuzz.target import Target, declared, head_of
from systemvm.service.errors import SystemVmError
from systemvm.ssvm.s3 import answers


def s3_document(data: bytes) -> None:
    answer = answers.S3Answer(200, {"etag": '"x"'}, data)
    for read in (answers.read_upload_id, answers.read_completed, answers.read_parts, answers.read_uploads):
        declared(lambda read=read: read(answer), SystemVmError)  # type: ignore[misc]
    declared(lambda: answers.read_objects(answer), SystemVmError)
    declared(lambda: answers.require_success(answers.S3Answer(500, {}, data), "listing"), SystemVmError)


def s3_headers(data: bytes) -> None:
    """Read what a HEAD or a part is answered with: a status in two bytes, then lines."""
    status, headers = head_of(data)
    answer = answers.S3Answer(status, {name: values[0] for name, values in headers.items()})
    declared(lambda: answers.read_head(answer, "key"), SystemVmError)
    declared(lambda: answers.read_part(answer, 1, 1, "0" * 32), SystemVmError)


_DOCUMENTS = (
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated>'
    b"<NextContinuationToken>n</NextContinuationToken><EncodingType>url</EncodingType>"
    b"<Contents><Key>a%20b</Key><Size>1</Size><ETag>&quot;x&quot;</ETag>"
    b"<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
    b"<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>",
    b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
    b"<CompleteMultipartUploadResult><ETag>&quot;x-2&quot;</ETag></CompleteMultipartUploadResult>",
    b"<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>x</ETag><Size>7</Size></Part>"
    b"<IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker></ListPartsResult>",
    b"<ListMultipartUploadsResult><Upload><Key>k</Key><UploadId>u</UploadId><Initiated>2026</Initiated>"
    b"</Upload><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
    b"<NextUploadIdMarker>u</NextUploadIdMarker></ListMultipartUploadsResult>",
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>m</Message></Error>',
)

TARGETS = {
    "s3": Target(s3_document, _DOCUMENTS),
    "s3_headers": Target(
        s3_headers,
        [
            b'\x00\xc8ETag: "%s"\nContent-Length: 7\n' % (b"0" * 32)
            + b"Last-Modified: Sat, 01 Nov 2025 10:00:00 GMT",
            b"\x00\xc8ETag: x\nx-amz-server-side-encryption: aws:kms",
        ],
    ),
}  # fmt: skip
