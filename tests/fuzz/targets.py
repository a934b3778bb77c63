# SPDX-License-Identifier: Apache-2.0
"""Parsers of bytes that strangers send, as functions of bytes with inputs to begin from.

A target returns for every input, or fails: its parser may raise the errors that it declares, and no other.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
from collections.abc import Callable, Sequence

import zstandard
from attrs import frozen

from image_corpus import archives, vhd, vhdx, vmdk
from integration.ssvm_lab import disk_images
from systemvm.cpvm.filter.client_messages import ClientRules, ClientScanner
from systemvm.cpvm.filter.encodings import Announced
from systemvm.cpvm.filter.faults import FilterError
from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.server_messages import ServerScanner
from systemvm.cpvm.filter.session_state import SessionState
from systemvm.cpvm.rfb import RfbError
from systemvm.cpvm.server_handshake import ServerHandshake
from systemvm.cpvm.target_http import HeadReader, check_upgraded
from systemvm.cpvm.websocket import FrameParser, WebSocketError
from systemvm.rpc.core import frame
from systemvm.rpc.core.errors import RpcError
from systemvm.service.errors import SystemVmError
from systemvm.ssvm import http_response
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import checksum_file, link_header, metalink, oci_manifest
from systemvm.ssvm.formats import ovf, vmdk_descriptor
from systemvm.ssvm.formats.gate import Admission
from systemvm.ssvm.limits import TIB, TransferLimits
from systemvm.ssvm.mover.bounded_decoder import BoundedDecoder
from systemvm.ssvm.properties import foreign
from systemvm.ssvm.s3 import answers
from systemvm.ssvm.serve import byte_ranges
from systemvm.wire import checksum, source_url
from systemvm.wire.storage import ImageFormat

MIB = 1 << 20
FORMATS = list(ImageFormat)


@frozen
class Target:
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]


def image(data: bytes) -> None:
    """Inspect an image; the first two bytes are its format and the size of the pieces."""
    if len(data) < 2:
        return
    image_format, piece_bytes, content = FORMATS[data[0] % len(FORMATS)], 1 + 31 * data[1], data[2:]
    outcomes = {_inspected(image_format, content, size) for size in (piece_bytes, max(1, len(content)))}
    assert len(outcomes) == 1, f"{image_format} depends on the pieces: {outcomes}"


def _inspected(image_format: ImageFormat, content: bytes, piece_bytes: int) -> str:
    admission = Admission(image_format, 16 * TIB)
    try:
        for start in range(0, len(content), piece_bytes):
            admission.feed(memoryview(content)[start : start + piece_bytes])
        return str(admission.verdict())
    except TransferError as error:
        return error.code.value


def compressed(data: bytes) -> None:
    """Decompress a file of any kind, at most to 4 MiB."""
    decoder = BoundedDecoder(4 * MIB, TransferLimits())
    produced = 0
    try:
        for start in range(0, len(data), 1000):
            produced += sum(len(piece) for piece in decoder.decode(data[start : start + 1000]))
        produced += sum(len(piece) for piece in decoder.finish())
    except TransferError:
        return
    assert produced <= 4 * MIB


def response(data: bytes) -> None:
    """Read the headers of a response: a status in two bytes, then lines."""
    status = int.from_bytes(data[:2], "big") % 600
    headers: dict[str, list[str]] = {}
    for line in data[2:].decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    point = http_response.ResumePoint(100, '"tag"', 200, None)
    for read in (
        lambda: http_response.require_status(status, headers=headers),
        lambda: http_response.read_body(headers),
        lambda: http_response.require_rest(status, headers, point),
        lambda: http_response.require_part(status, headers, point, 10, 20),
        lambda: http_response.total_of_probe(status, headers),
    ):
        _declared(read, TransferError)
    http_response.read_retry_after(headers)
    http_response.read_validator(headers)
    link_header.duplicates(headers)
    _declared(lambda: oci_manifest.read_challenge(headers.get("www-authenticate", [])), TransferError)


def s3_response(data: bytes) -> None:
    answer = answers.S3Answer(200, {"etag": '"x"'}, data)
    for read in (answers.read_upload_id, answers.read_completed, answers.read_parts, answers.read_uploads):
        _declared(lambda read=read: read(answer), SystemVmError)  # type: ignore[misc]
    _declared(lambda: answers.read_objects(answer), SystemVmError)
    _declared(lambda: answers.require_success(answers.S3Answer(500, {}, data), "listing"), SystemVmError)


def oci_document(data: bytes) -> None:
    _declared(lambda: oci_manifest.read_token(data), TransferError)
    _declared(lambda: oci_manifest.digest_for(data, "amd64"), TransferError)
    _declared(lambda: oci_manifest.disk_blob(data), TransferError)


def rpc_bytes(data: bytes) -> None:
    splitter = frame.LineSplitter(10_000)
    try:
        for line in splitter.feed(data):
            _declared(lambda line=line: frame.decode(line), RpcError)  # type: ignore[misc]
    except frame.LineTooLong:
        return


def url(data: bytes) -> None:
    text = data.decode(errors="replace")
    _declared(lambda: source_url.parse(text), source_url.SourceUrlError)
    base = source_url.parse("http://images.example.test/a/b")
    _declared(lambda: base.follow(data), source_url.SourceUrlError)


def vnc_server(data: bytes) -> None:
    _declared(lambda: ServerHandshake("secret").receive(data), RfbError)
    _declared(lambda: ServerHandshake(None).receive(data), RfbError)
    _declared(lambda: _encrypted(data), RfbError)


def _encrypted(data: bytes) -> None:
    """Handshake with TLS, which begins after the subtype was accepted."""
    handshake = ServerHandshake("secret", tls=True)
    for at in range(len(data)):
        if handshake.needs_tls:
            handshake.tls_started()
        handshake.receive(data[at : at + 1])


def hypervisor_head(data: bytes) -> None:
    def read() -> None:
        head = HeadReader().receive(data)
        if head is not None:
            check_upgraded(head, "AAAAAAAAAAAAAAAAAAAAAA==")

    _declared(read, RfbError)


def rfb_browser(data: bytes) -> None:
    """Filter a browser's bytes; what passes must pass again unchanged."""
    rules = ClientRules(False, False, True, Announced.FOLLOWED)
    passed = b"".join(_filtered(lambda state: ClientScanner(rules, state), data))
    assert b"".join(_filtered(lambda state: ClientScanner(rules, state), passed)) == passed


def rfb_server(data: bytes) -> None:
    """Filter a VNC server's bytes; what passes must pass again unchanged."""

    def scanner(state: SessionState) -> ServerScanner:
        return ServerScanner(state, may_send_text=False, may_receive_text=True)

    passed = b"".join(_filtered(scanner, data))
    assert b"".join(_filtered(scanner, passed)) == passed


def _filtered(scanner: Callable[[SessionState], ClientScanner | ServerScanner], data: bytes) -> list[bytes]:
    reading, passed = scanner(SessionState(640, 480, PixelFormat(4, 3))), []
    with contextlib.suppress(FilterError):
        for start in range(0, len(data), 7):
            passed += [bytes(piece) for piece in reading.feed(data[start : start + 7])]
    return passed


def _text(read: Callable[[str], object], *errors: type[Exception]) -> Callable[[bytes], None]:
    return lambda data: _declared(lambda: read(data.decode(errors="replace")), *errors)


def _bytes(read: Callable[[bytes], object], *errors: type[Exception]) -> Callable[[bytes], None]:
    return lambda data: _declared(lambda: read(data), *errors)


def _declared(call: Callable[[], object], *errors: type[Exception]) -> None:
    with contextlib.suppress(*errors):
        call()


def _image_seeds() -> list[bytes]:
    files = {
        ImageFormat.QCOW2: [disk_images.qcow2(), disk_images.qcow2(version=2)],
        ImageFormat.ISO: [disk_images.iso()],
        ImageFormat.VHD: [vhd.dynamic(4 * MIB, 512 * 1024)],
        ImageFormat.VHDX: [vhdx.image(used=(0,))],
        ImageFormat.VMDK: [vmdk.sparse(), vmdk.stream()],
        ImageFormat.OVA: [archives.archive([("a.ovf", archives.descriptor()), ("disk.vmdk", vmdk.stream())])],
        ImageFormat.TAR: [archives.archive([("a", b"x" * 1000)])],
    }
    return [
        bytes([FORMATS.index(image_format), 255]) + file
        for image_format, seeds in files.items()
        for file in seeds
    ]


_S3_LISTING = (
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>'
    b"<Contents><Key>a</Key><Size>1</Size><ETag>&quot;x&quot;</ETag></Contents></ListBucketResult>"
)
_METALINK = (
    b'<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a"><size>3</size>'
    b'<hash type="sha-256">%s</hash><url priority="1">http://a.example.test/a</url>'
    b'<pieces length="1" type="sha-1"><hash>%s</hash></pieces></file></metalink>'
) % (b"0" * 64, b"0" * 40)
_MANIFEST = (
    b'{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{"mediaType":"x","size":1,'
    b'"digest":"sha256:%s"}]}'
) % (b"0" * 64)

TARGETS = {
    "image": Target(image, _image_seeds()),
    "compressed": Target(
        compressed,
        [gzip.compress(b"x" * 999), lzma.compress(b"x" * 999), zstandard.compress(b"x" * 999), b"BZh9"],
    ),
    "response": Target(
        response,
        [
            b"\x00\xc8Content-Length: 10\nETag: \"a\"\nAccept-Ranges: bytes",
            b"\x00\xceContent-Range: bytes 100-199/200\nETag: \"tag\"",
            b"\x01\xf7Retry-After: 3\nLink: <http://b.example.test/a>; rel=duplicate; pri=1",
            b'\x01\x91WWW-Authenticate: Bearer realm="https://a.example.test/t",service="s"',
        ],
    ),
    "metalink": Target(_bytes(metalink.parse, TransferError), [_METALINK]),
    "checksums": Target(
        _text(lambda text: checksum_file.find_checksum(text, "a"), SystemVmError),
        [b"%s *a\n" % (b"0" * 64), b"SHA256 (a) = %s\n" % (b"0" * 64)],
    ),
    "checksum": Target(_text(checksum.parse, ValueError), [b"{SHA-256}" + b"0" * 64, b"0" * 32]),
    "oci": Target(oci_document, [_MANIFEST, b'{"token":"x"}', b'{"manifests":[]}']),
    "s3": Target(s3_response, [_S3_LISTING]),
    "properties": Target(
        _bytes(foreign.parse, TransferError),
        [b"#Mon\nid=202\nuniquename=202-2-x\nqcow2=true\nqcow2.filename=a.qcow2\nqcow2.size=1\nfilename=a\n"],
    ),
    "ovf": Target(_bytes(ovf.read_descriptor, TransferError), [archives.descriptor()]),
    "manifest": Target(_bytes(ovf.read_manifest, TransferError), [b"SHA256(a.vmdk)= " + b"0" * 64]),
    "vmdk": Target(
        _bytes(lambda data: vmdk_descriptor.check(data, vmdk.CAPACITY), TransferError), [vmdk.descriptor()]
    ),
    "url": Target(url, [b"https://images.example.test:8443/a%20b?c=d", b"oci://r.example.test/a:1", b"../x"]),
    "ranges": Target(_text(lambda text: byte_ranges.parse_ranges(text, 1000)), [b"bytes=0-9,20-,-5"]),
    "rpc": Target(rpc_bytes, [b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}\n']),
    "websocket": Target(
        _bytes(lambda data: FrameParser().feed(data), WebSocketError), [b"\x82\x81\0\0\0\0x", b"\x88\x80abcd"]
    ),
    "rfb_browser": Target(
        rfb_browser,
        [
            b"\x02\0\0\x02\0\0\0\7\0\0\0\0",
            b"\6\0\0\0\xff\xff\xff\xf8\1\0\0\1abcd",
            b"\xff\0" + bytes(10),
        ],
    ),
    "rfb_server": Target(
        rfb_server, [b"\0\0\0\1" + bytes(4) + b"\0\2\0\1" + bytes(12), b"\3\0\0\0\0\0\0\1x", b"\2"]
    ),
    "vnc": Target(vnc_server, [b"RFB 003.008\n\x01\x02" + bytes(16), b"RFB 003.003\n\0\0\0\1",
                                b"RFB 003.008\n\x01\x13\0\x02\0\x01\0\0\x01\x05\x01" + bytes(20)]),
    "hypervisor": Target(
        hypervisor_head,
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
    ),
}  # fmt: skip
