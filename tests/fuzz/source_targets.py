# SPDX-License-Identifier: Apache-2.0
"""What the servers of sources send: responses, documents about images, what proxies and registries say."""

from __future__ import annotations

import contextlib

import pysequoia

from fuzz.target import Target, declared, head_of, of_bytes, of_text
from systemvm.service.errors import SystemVmError
from systemvm.ssvm import http_response
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import checksum_file, link_header, metalink, oci_manifest, openpgp
from systemvm.ssvm.fetch.proxy_connect import ConnectResponse
from systemvm.wire import checksum, source_url
from systemvm.wire.source_access import SourceProxy

PROXIED = source_url.parse("https://images.example.test/a.qcow2")
_SECRET_KEY = pysequoia.Tsk.generate("publisher <publisher@example.test>")
KEY = str(_SECRET_KEY.extract_certificate())


def response(data: bytes) -> None:
    """Read the headers of a response: a status in two bytes, then lines."""
    status, headers = head_of(data)
    tag, date = (
        http_response.ResumePoint(100, validator, 200, None)
        for validator in ('"tag"', "Sat, 01 Nov 2025 10:00:00 GMT")
    )
    for read in (
        lambda: http_response.require_status(status, headers=headers),
        lambda: http_response.read_body(headers),
        lambda: http_response.require_rest(status, headers, tag),
        lambda: http_response.require_rest(status, headers, date),
        lambda: http_response.require_part(status, headers, tag, 10, 20),
        lambda: http_response.total_of_probe(status, headers),
    ):
        declared(read, TransferError)
    http_response.read_retry_after(headers)
    http_response.read_validator(headers)
    link_header.duplicates(headers)
    oci_manifest.read_challenge(headers.get("www-authenticate", []))


def oci_document(data: bytes) -> None:
    declared(lambda: oci_manifest.read_token(data), TransferError)
    declared(lambda: oci_manifest.digest_for(data, "amd64"), TransferError)
    declared(lambda: oci_manifest.disk_blob(data), TransferError)


def url(data: bytes) -> None:
    text = data.decode(errors="replace")
    declared(lambda: source_url.parse(text), source_url.SourceUrlError)
    base = source_url.parse("http://images.example.test/a/b")
    declared(lambda: base.follow(data), source_url.SourceUrlError)


def proxy_response(data: bytes) -> None:
    for size in (1, 4096):
        connect = ConnectResponse(PROXIED, SourceProxy("proxy.example.test"))
        with contextlib.suppress(TransferError):
            for start in range(0, len(data), size):
                if connect.feed(data[start : start + size]):
                    break


def signed_document(data: bytes) -> None:
    """Verify a checksum file: the length of its signature in two bytes, the signature, the document."""
    length = int.from_bytes(data[:2], "big")
    signature, document = data[2 : 2 + length], data[2 + length :]
    openpgp.is_signed_text(document)
    declared(lambda: openpgp.verify(document, signature, KEY), TransferError)
    declared(lambda: openpgp.verify(document, None, KEY), TransferError)


def _signed_seeds() -> list[bytes]:
    sums, signer = b"0" * 64 + b"  a.qcow2\n", _SECRET_KEY.signer()
    detached = bytes(pysequoia.sign(signer, sums, mode=pysequoia.SignatureMode.DETACHED))
    clear = bytes(pysequoia.sign(signer, sums, mode=pysequoia.SignatureMode.CLEAR))
    return [len(detached).to_bytes(2, "big") + detached + sums, b"\0\0" + clear]


_FILE = (
    b'<hash type="sha-256">%s</hash><url priority="1">http://a.example.test/a</url>'
    b'<pieces length="1" type="sha-1"><hash>%s</hash></pieces>'
) % (b"0" * 64, b"0" * 40)
_METALINK4 = (
    b'<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a"><size>1</size>%s</file></metalink>'
) % _FILE
_METALINK3 = (
    b'<?xml version="1.0" encoding="UTF-8"?><metalink version="3.0" xmlns="http://www.metalinker.org/">'
    b'<files><file name="a"><verification><hash type="md5">%s</hash></verification><resources>'
    b'<url type="http" preference="90">http://a.example.test/a</url></resources></file></files></metalink>'
) % (b"0" * 32)
_DIGEST = b"sha256:" + b"0" * 64
_MANIFEST = (
    b'{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{"mediaType":"x","size":1,'
    b'"digest":"%s"}]}'
) % _DIGEST
_INDEX = (
    b'{"manifests":[{"digest":"%s","size":1,"platform":{"architecture":"arm64"}},'
    b'{"digest":"%s","size":1,"platform":{"architecture":"amd64"}}]}'
) % (_DIGEST, _DIGEST)

TARGETS = {
    "response": Target(
        response,
        [
            b"\x00\xc8Content-Length: 10\nETag: \"a\"\nAccept-Ranges: bytes",
            b"\x00\xc8Last-Modified: Sat, 01 Nov 2025 10:00:00 GMT\nDate: Sat, 28 Nov 2026 10:00:00 GMT",
            b"\x00\xceContent-Range: bytes 100-199/200\nETag: \"tag\"",
            b"\x00\xceContent-Range: bytes 100-199/200\nLast-Modified: Sat, 01 Nov 2025 10:00:00 GMT",
            b"\x01\xf7Retry-After: 3\nLink: <http://b.example.test/a>; rel=duplicate; pri=1",
            b"\x01\xf7Retry-After: Sat, 28 Nov 2026 10:00:00 GMT\nDate: Sat, 28 Nov 2026 10:00:00 GMT",
            b'\x01\x91WWW-Authenticate: Bearer realm="https://a.example.test/t",service="s",scope="p"',
        ],
    ),
    "metalink": Target(of_bytes(metalink.parse, TransferError), [_METALINK4, _METALINK3]),
    "checksums": Target(
        of_text(lambda text: checksum_file.find_checksum(text, "a"), SystemVmError),
        [b"%s *a\n" % (b"0" * 64), b"SHA256 (a) = %s\n" % (b"0" * 64)],
    ),
    "checksum": Target(of_text(checksum.parse, ValueError), [b"{SHA-256}" + b"0" * 64, b"0" * 32]),
    "signed": Target(signed_document, _signed_seeds()),
    "oci": Target(oci_document, [_MANIFEST, _INDEX, b'{"token":"x"}', b'{"access_token":"x"}']),
    "proxy": Target(
        proxy_response,
        [b"HTTP/1.1 200 Connection established\r\nVia: a\r\n\r\n", b"HTTP/1.0 407 Login\r\n\r\n"],
    ),
    "url": Target(url, [b"https://images.example.test:8443/a%20b?c=d", b"oci://r.example.test/a:1", b"../x"]),
}  # fmt: skip
