# SPDX-License-Identifier: Apache-2.0
"""What clients send: uploads, requests for links, and the frames of agents."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from fuzz.target import Target, declared, headers_of, of_text
from systemvm.rpc.core import frame
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.serve import byte_ranges
from systemvm.ssvm.serve.body_stream import BodyStream
from systemvm.ssvm.serve.byte_ranges import ByteRange
from systemvm.ssvm.serve.form_file import MAX_PREFIX_BYTES, FormError, FormFile
from systemvm.ssvm.serve.link_table import LinkTable
from systemvm.ssvm.serve.response_plan import FileFacts, plan_response
from systemvm.ssvm.serve.upload_exchange import UploadExchange
from systemvm.ssvm.serve.upload_table import UploadTable
from systemvm.ssvm.upload_messages import ServedUpload, UploadAnswer, UploadCall, UploadEnd
from systemvm.web.forwarded import client_address, networks
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.extract import ExtractLink
from systemvm.wire.storage import Store

PAGE = "https://page.example.test"
UPLOAD = ServedUpload("u", "job", "metadata", "2026", 1e10, "signature", 1 << 40, [PAGE])
SIGNED = {"x-signature": "signature", "x-metadata": "metadata", "x-expires": "2026"}
ENDPOINT = PublicEndpoint.parse("https://ssvm.example.test/ssvm")
LINKS = LinkTable(lambda: 0.0)
LINKS.put([ExtractLink("secret", "a.qcow2", Store("10.12.0.2", "/export"), 2, 204, 1e10)])
FILE = FileFacts("a.qcow2", 1000, 1_760_000_000, "tag")
PROXIES = networks(["10.0.0.0/8"])


def form(data: bytes) -> None:
    """Take the file out of a posted form: a line with the content type, then the body."""
    kind, _, body = data.partition(b"\n")
    if len(body) <= MAX_PREFIX_BYTES:  # what may precede the file of a longer one depends on the pieces
        outcomes = {_file_of(kind.decode("latin-1"), body, size) for size in (7, 4096, max(1, len(body)))}
        assert len(outcomes) == 1, "what is taken depends on the pieces"


def _file_of(content_type: str, body: bytes, piece_bytes: int) -> bytes | None:
    try:
        parser = FormFile(content_type)
        pieces = [
            piece
            for start in range(0, len(body), piece_bytes)
            for piece in parser.feed(body[start : start + piece_bytes])
        ]
        parser.finish()
    except FormError:
        return None
    return b"".join(pieces)


class _WillingFetch:
    """Takes whatever it gets, as fetch does while all is well."""

    async def call(self, call: UploadCall) -> UploadAnswer:
        return UploadAnswer(None, call.offset, call.total_bytes)

    async def answer(self) -> UploadAnswer:
        return UploadAnswer(None, 7, 7, is_complete=True)

    async def send(self, data: bytes) -> bool:
        return True

    def end_body(self) -> None:
        """Nothing of it is kept."""

    def close(self) -> None:
        """There is no connection."""


async def _connect() -> Any:
    return _WillingFetch()


def upload_request(data: bytes) -> None:
    """Answer a request for an upload: a method, lines of headers, a blank line, and the body."""
    head, _, body = data.partition(b"\n\n")
    method, *lines = head.decode("latin-1").split("\n")
    headers = SIGNED | {name: values[0] for name, values in headers_of(lines).items() if len(values) == 1}
    clock: Any = Clock()
    table = UploadTable(clock.seconds)
    table.put([UPLOAD])
    stream = BodyStream(clock, lambda: None, lambda: None)
    exchange = UploadExchange(
        clock, table, _connect, UPLOAD, method, "/upload/u",
        lambda name: headers.get(name.lower(), ""),
        None if "transfer-encoding" in headers else len(body),
        stream,
    )  # fmt: skip
    outcome: list[Any] = []
    Deferred.fromCoroutine(exchange.outcome()).addBoth(outcome.append)
    for start in range(0, len(body), 1000):
        stream.received(body[start : start + 1000])
    stream.completed()
    table.put([evolve(UPLOAD, end=UploadEnd())])
    [answer] = outcome
    if isinstance(answer, Failure):
        answer.raiseException()
    assert 200 <= answer.code < 600
    assert all(value.isprintable() for pair in answer.headers for value in pair)


def download_request(data: bytes) -> None:
    """Answer a request for a link: its path, then lines of headers."""
    path, *lines = data.decode("latin-1").split("\n")
    headers = {name: values[0] for name, values in headers_of(lines).items() if len(values) == 1}
    below = ENDPOINT.route(path)
    if below is not None:
        LINKS.find(below)
    plan = plan_response(FILE, lambda name: headers.get(name, ""), new_boundary=lambda: "x")
    assert all(value.isprintable() for pair in plan.headers for value in pair)
    # no request has it send more than the file
    assert sum(each.length for each in plan.segments if isinstance(each, ByteRange)) <= FILE.size_bytes
    client_address("10.0.0.1", [headers.get("x-forwarded-for", "")], PROXIES)


def rpc_bytes(data: bytes) -> None:
    splitter = frame.LineSplitter(10_000)
    try:
        for line in splitter.feed(data):
            declared(lambda line=line: frame.decode(line), RpcError)  # type: ignore[misc]
    except frame.LineTooLong:
        return


_FORM = (
    b'--x7\r\nContent-Disposition: form-data; name="other"\r\n\r\ntext\r\n'
    b'--x7\r\nContent-Disposition: form-data; name="file"; filename="a.raw"\r\nContent-Type: a/b\r\n\r\n'
    b"content\r\n--x7--\r\n"
)
_TUS = b"Tus-Resumable: 1.0.0\n"

TARGETS = {
    "form": Target(form, [b"multipart/form-data; boundary=x7\n" + _FORM]),
    "upload": Target(
        upload_request,
        [
            b"POST\nContent-Type: multipart/form-data; boundary=x7\n\n" + _FORM,
            b"POST\n" + _TUS + b"Upload-Length: 7\nUpload-Metadata: filename YQ==,is_confidential\n\n",
            b"POST\n" + _TUS + b"Upload-Defer-Length: 1\nX-HTTP-Method-Override: PATCH\n\n",
            b"PATCH\n" + _TUS + b"Content-Type: application/offset+octet-stream\nUpload-Offset: 0\n"
            b"Upload-Length: 7\nUpload-Checksum: sha1 BA7lWOr9BoLQQQ4bhnpXxh1Nhao=\n\ncontent",
            b"HEAD\n" + _TUS + b"\n",
            b"DELETE\n" + _TUS + b"\n",
            b"OPTIONS\nOrigin: https://page.example.test\nAccess-Control-Request-Method: PATCH\n"
            b"Access-Control-Request-Private-Network: true\n\n",
        ],
    ),
    "download": Target(
        download_request,
        [
            b"/ssvm/userdata/secret/a.qcow2\nRange: bytes=0-9,20-,-5\nIf-Range: \"tag\"",
            b"/ssvm/userdata/secret/a.qcow2\nIf-Modified-Since: Sat, 28 Nov 2026 10:00:00 GMT",
            b"/ssvm/userdata/secret/a.qcow2\nIf-None-Match: W/\"tag\", *\nX-Forwarded-For: 203.0.113.1, ::1",
        ],
    ),
    "ranges": Target(of_text(lambda text: byte_ranges.parse_ranges(text, 1000)), [b"bytes=0-9,20-,-5"]),
    "rpc": Target(rpc_bytes, [b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}\n']),
}  # fmt: skip
