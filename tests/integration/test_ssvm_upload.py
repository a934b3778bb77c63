# SPDX-License-Identifier: Apache-2.0
"""Uploads through the SSVM's real processes: CloudStack's signed form and tus, with curl as the client."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from attrs import define, evolve
from twisted.internet.threads import deferToThread

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, published
from integration.ssvm_lab.public_client import ORIGIN, Client, identity
from integration.ssvm_lab.world import STORE, VM, Builder, World
from rpc_wait import until
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_SETUP
from systemvm.wire.storage import DownloadAbort, DownloadStatus, ImageFormat, JobListing
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
__all__ = ["daemon"]  # a fixture
PAGE = "https://cloud.example.test"
KEY = b"the daemon's"
MIB = 1 << 20
CONTENT = hashlib.shake_256(b"an upload").digest(5_000_192)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory), "256m") as built:
        yield built


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client(world: World, authority: trustme.CA, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    yield Client(world, tmp_path / "ca.pem")


def upload_request(content: bytes | None = None, lifetime_s: float = 600.0, **more: Any) -> UploadRequest:
    """Return a signed request as the daemon makes it; `content` gives the checksum."""
    upload_id, expires_unix_s = str(uuid.uuid4()), time.time() + lifetime_s
    url, metadata = f"{ORIGIN}/upload/{upload_id}", base64.b64encode(os.urandom(300)).decode()
    expires = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(expires_unix_s))
    mac = hmac.new(KEY, (metadata + url + expires).encode(), "sha1").digest()
    values: dict[str, Any] = {
        "job_id": str(uuid.uuid4()), "request_id": "r-1", "template_id": 204, "account_id": 2,
        "unique_name": "204-2-test", "description": "A tést = image", "format": ImageFormat.RAW,
        "store": STORE, "max_size_bytes": 1 << 30, "upload_id": upload_id, "post_url": url,
        "metadata": metadata, "expires": expires, "expires_unix_s": expires_unix_s,
        "signature": base64.b64encode(mac).decode(), "allowed_origins": [PAGE],
        "checksum": None if content is None else f"{{SHA-256}}{hashlib.sha256(content).hexdigest()}",
    }  # fmt: skip
    return UploadRequest(**(values | more))


@define
class Answer:
    code: int
    headers: dict[str, str]
    text: str

    @property
    def offset(self) -> int:
        return int(self.headers["upload-offset"])


class Uploader:
    """One upload, and its client's requests."""

    def __init__(self, client: Client, request: UploadRequest, directory: Path) -> None:
        self.client = client
        self.request = request
        self._file = directory / "body"

    @property
    def signed(self) -> list[str]:
        request = self.request
        headers = {"x-SIGNATURE": request.signature, "X-metadata": request.metadata}
        return _options(headers | {"X-expires": request.expires})

    async def ask(
        self, method: str, *arguments: str, signed: bool = True, body: bytes | None = None
    ) -> Answer:
        more = list(arguments) + (self.signed if signed else [])
        if body is not None:
            self._file.write_bytes(body)
            more += ["--data-binary", f"@{self._file}"]
        if method == "HEAD":
            more.append("-I")
        else:
            more += ["-D", "-"]
            if method != "POST" or "-F" not in arguments:
                more += ["-X", method]
        done = await deferToThread(self.client.curl, *more, self.request.post_url)
        log = self.client.world.log_of
        assert done.returncode == 0, (done.stderr, log("serve")[-3000:], log("fetch")[-3000:])
        return _parsed(done.stdout)

    async def tus(self, method: str, *arguments: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask(method, *_options({"Tus-Resumable": "1.0.0"} | named), *arguments, body=body)

    async def patch(self, offset: int, body: bytes, *arguments: str, **headers: str) -> Answer:
        about = {"Content_Type": "application/offset+octet-stream", "Upload_Offset": str(offset)}
        return await self.tus("PATCH", *arguments, body=body, **(about | headers))

    async def form(self, content: bytes, *arguments: str, name: str = "disk.raw") -> Answer:
        self._file.write_bytes(content)
        form = f"file=@{self._file};filename={name};type=application/octet-stream"
        return await self.ask("POST", "-F", "other=field", "-F", form, *arguments)

    async def create(self, size_bytes: int) -> Answer:
        return await self.tus("POST", Upload_Length=str(size_bytes))

    async def offset(self) -> Answer:
        """Return the answer to HEAD; it is asked again while processes are being replaced."""
        while True:
            done = await deferToThread(
                self.client.curl,
                "-I",
                *_options({"Tus-Resumable": "1.0.0"}),
                *self.signed,
                self.request.post_url,
            )
            if done.returncode == 0 and (head := _parsed(done.stdout)).code not in (404, 503):
                assert head.code == 200, head
                return head

    def start_form(self, content: bytes, *arguments: str) -> subprocess.Popen[bytes]:
        self._file.write_bytes(content)
        form = ["-F", f"file=@{self._file}"]
        return self.client.start(*form, *arguments, *self.signed, "-o", "/dev/null", self.request.post_url)

    def start_patch(self, offset: int, body: bytes, *arguments: str) -> subprocess.Popen[bytes]:
        self._file.write_bytes(body)
        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset)}
        about = _options(headers | {"Content-Type": "application/offset+octet-stream"})
        data = ["--data-binary", f"@{self._file}"]
        command = ["-X", "PATCH", *arguments, *about, *self.signed, *data, "-o", "/dev/null"]
        return self.client.start(*command, self.request.post_url)


def _options(headers: dict[str, str]) -> list[str]:
    return [each for name, value in headers.items() for each in ("-H", f"{name}: {value}")]


def _parsed(output: bytes) -> Answer:
    head, _, text = output.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, text = text.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]), headers, text.decode())


class Uploads:
    """Begins uploads at the agent."""

    def __init__(self, daemon: Daemon, client: Client, directory: Path) -> None:
        self.daemon = daemon
        self._client = client
        self._directory = directory

    async def begin(self, request: UploadRequest) -> Uploader:
        status = await self.daemon.call(TEMPLATE_UPLOAD, request, DownloadStatus)
        assert status.job_id == request.job_id
        return Uploader(self._client, request, self._directory)

    def _progress(self, uploader: Uploader) -> list[DownloadStatus]:
        return [one for one in self.daemon.progress if one.job_id == uploader.request.job_id]

    def received(self, uploader: Uploader) -> int:
        return max((one.received_bytes for one in self._progress(uploader)[-1:]), default=0)

    def steps(self, uploader: Uploader) -> list[str]:
        return [step.text for one in self._progress(uploader)[-1:] for step in one.steps]


@pytest_twisted.async_yield_fixture
async def uploads(daemon: Daemon, client: Client, authority: trustme.CA, tmp_path: Path) -> Any:
    await daemon.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
    yield Uploads(daemon, client, tmp_path)


@pytest_twisted.ensureDeferred
async def test_signed_form_becomes_a_template(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    answer = await uploader.form(CONTENT, "-H", f"Origin: {PAGE}")
    assert (answer.code, answer.text) == (200, "upload successful.")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert published(world, await ended).read_bytes() == CONTENT
    again = await uploader.form(CONTENT)
    assert (again.code, again.text) == (400, "The one time post url is already used for upload")


@pytest_twisted.ensureDeferred
async def test_tus_goes_on_where_it_was_interrupted(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    options = await uploader.ask("OPTIONS", signed=False)
    assert options.code == 204
    assert options.headers["tus-version"] == "1.0.0"
    assert options.headers["tus-extension"] == "creation,creation-defer-length,termination,checksum"
    assert options.headers["tus-max-size"] == str(1 << 30)
    head = await uploader.tus("HEAD")
    assert (head.offset, head.headers["upload-defer-length"]) == (0, "1")
    created = await uploader.create(len(CONTENT))
    assert (created.code, created.headers["location"]) == (201, f"/upload/{uploader.request.upload_id}")
    assert (await uploader.create(len(CONTENT))).code == 201, "repeating it has no effect"
    assert (await uploader.create(len(CONTENT) + 1)).code == 400
    first = await uploader.patch(0, CONTENT[:3_000_000])
    assert (first.code, first.offset) == (204, 3_000_000)
    head = await uploader.tus("HEAD")
    assert (head.offset, head.headers["upload-length"]) == (3_000_000, str(len(CONTENT)))
    assert head.headers["cache-control"] == "no-store"
    assert (await uploader.patch(0, CONTENT)).code == 409
    assert (await uploader.patch(3_000_001, b"x")).code == 409
    assert (await uploader.patch(3_000_000, CONTENT[3_000_000:] + b"x")).code == 413
    assert (await uploader.patch(3_000_000, b"x", Tus_Resumable="0.2.2")).code == 412
    assert (await uploader.patch(3_000_000, b"x", Content_Type="application/octet-stream")).code == 415
    assert (
        await uploader.patch(3_000_000, b"x", Upload_Checksum="sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    ).code == 460
    assert (await uploader.patch(3_000_000, b"x", Upload_Checksum="crc32 AAAAAA==")).code == 400
    piece = CONTENT[3_000_000:4_000_000]
    digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
    checked = await uploader.patch(3_000_000, piece, Upload_Checksum=f"sha256 {digest}")
    assert (checked.code, checked.offset) == (204, 4_000_000)
    last = await uploader.patch(4_000_000, CONTENT[4_000_000:])
    assert (last.code, last.offset) == (204, len(CONTENT))
    assert published(world, await ended).read_bytes() == CONTENT
    head = await uploader.tus("HEAD")
    assert (head.code, head.offset) == (200, len(CONTENT)), "a client that lost the answer"


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
@pytest_twisted.ensureDeferred
async def test_first_body_can_say_the_length(uploads: Uploads, world: World, compress: Any) -> None:
    content = bytes(2 * MIB) + CONTENT
    body = compress(content)
    uploader = await uploads.begin(upload_request(body))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.patch(0, body[:1000])).code == 400, "nobody has said the length"
    for start in range(0, len(body), 2_000_000):
        answer = await uploader.patch(start, body[start : start + 2_000_000], Upload_Length=str(len(body)))
        assert (answer.code, answer.offset) == (204, min(len(body), start + 2_000_000))
    assert published(world, await ended).read_bytes() == content


# ---- processes that die ------------------------------------------------------------------------------------

LARGE = hashlib.shake_256(b"a large upload").digest(64 * MIB)
#: Behind two checkpoints at least.
KILL_AFTER_BYTES = 40 * MIB
MOST_TWICE_BYTES = 32 * MIB


@pytest.mark.parametrize("victim", ["mover", "fork server", "fetch", "serve"])
@pytest_twisted.ensureDeferred
async def test_a_process_killed_in_the_middle_costs_what_its_journal_lacks(
    uploads: Uploads, world: World, victim: str
) -> None:
    uploader = await uploads.begin(upload_request(LARGE))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(LARGE))).code == 201
    running = uploader.start_patch(0, LARGE, "--limit-rate", "20m")
    await until(lambda: uploads.received(uploader) > KILL_AFTER_BYTES, 60)
    pids = {
        "mover": world.mover_pids,
        "fork server": world.fork_server_pids,
        "fetch": world.fetch_pids,
        "serve": world.serve_pids,
    }[victim]()
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await deferToThread(running.wait)
    head = await uploader.offset()
    assert KILL_AFTER_BYTES - MOST_TWICE_BYTES <= head.offset <= len(LARGE)
    assert head.headers["upload-length"] == str(len(LARGE))
    last = await uploader.patch(head.offset, LARGE[head.offset :])
    assert (last.code, last.offset) == (204, len(LARGE))
    assert published(world, await ended).read_bytes() == LARGE


@pytest_twisted.ensureDeferred
async def test_a_new_agent_and_a_new_fetch_continue_what_the_store_has(
    uploads: Uploads, world: World, authority: trustme.CA, client: Client, tmp_path: Path
) -> None:
    """As after a power cut of the VM: only what is on the store is known."""
    uploader = await uploads.begin(upload_request(LARGE))
    assert (await uploader.create(len(LARGE))).code == 201
    assert (await uploader.patch(0, LARGE[: 50 * MIB])).code == 204
    await uploads.daemon.close()
    for pid in [*world.fetch_pids(), *world.serve_pids()]:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: world.mover_pids() == [], 10)
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        other = await Daemon(Path(directory), world).start()
        try:
            await other.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
            again = await Uploads(other, client, tmp_path).begin(
                evolve(uploader.request, total_bytes=len(LARGE))
            )
            ended = other.end_of(again.request.job_id)
            head = await again.offset()
            assert 50 * MIB - MOST_TWICE_BYTES <= head.offset <= 50 * MIB
            assert (await again.patch(head.offset, LARGE[head.offset :])).code == 204
            assert published(world, await ended).read_bytes() == LARGE
        finally:
            await other.close()


@pytest.mark.parametrize("victim", ["mover", "serve"])
@pytest_twisted.ensureDeferred
async def test_a_form_that_breaks_off_is_the_end(uploads: Uploads, world: World, victim: str) -> None:
    uploader = await uploads.begin(upload_request(LARGE))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    running = uploader.start_form(LARGE, "--limit-rate", "20m")
    await until(lambda: uploads.received(uploader) > 4 * MIB, 60)
    for pid in {"mover": world.mover_pids, "serve": world.serve_pids}[victim]():
        os.kill(pid, signal.SIGKILL)
    await deferToThread(running.wait)
    status = await ended
    assert status.error is not None
    code = TransferFailure.WORKER_DIED if victim == "mover" else TransferFailure.UPLOAD_BROKEN
    assert status.error.code == code.value
    if victim == "serve":
        assert status.error.message == "file receive failed or connection closed prematurely."
    assert world.leftovers() == []


# ---- refusals ----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_refusals_in_the_words_of_cloudstack(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT, max_size_bytes=len(CONTENT)))
    form = ("-F", "file=@/etc/hostname")
    missing = await uploader.ask("POST", *form, signed=False)
    assert (missing.code, missing.text) == (400, "signature, metadata and expires are compulsory fields.")
    for forged in (
        evolve(uploader.request, signature="AAAA"),
        evolve(uploader.request, metadata="AAAA"),
        evolve(uploader.request, expires="AAAA"),
    ):
        other = Uploader(uploader.client, forged, Path("/nonexistent"))
        refused = await other.ask("POST", *form)
        assert (refused.code, refused.text) == (400, "signature validation failed.")
        assert (await other.tus("HEAD")).code == 400
    empty = await uploader.ask("POST", "-H", "Content-Length: 0")
    text = "content length is not set in the request or has invalid value."
    assert (empty.code, empty.text) == (400, text)
    chunked = await uploader.ask("POST", "-H", "Transfer-Encoding: chunked", *form)
    assert (chunked.code, chunked.text) == (400, text)
    for method in ("GET", "PUT"):
        assert (await uploader.ask(method)).text == "only post requests are allowed"
    no_file = await uploader.ask("POST", "-F", "file=text")
    assert (no_file.code, no_file.text) == (422, "received entity is not a file")
    no_form = await uploader.ask("POST", "--data-binary", "text")
    assert (no_form.code, no_form.text) == (422, "received entity is not a file")
    large = await uploader.form(CONTENT + bytes(1 << 18))
    assert large.code == 400 and large.text.startswith("Maximum file upload size exceeded.")
    assert (await uploader.create(len(CONTENT) + 1)).code == 413
    unknown = Uploader(uploader.client, upload_request(), Path("/nonexistent"))
    assert (await unknown.ask("POST", *form)).code in (404, 413)
    assert (await unknown.tus("HEAD")).code == 404
    assert (await uploader.form(CONTENT)).code == 200, "no refusal has used the URL"


@pytest_twisted.ensureDeferred
async def test_an_upload_that_does_not_begin_expires(uploads: Uploads) -> None:
    request = upload_request(lifetime_s=0.5)
    ended = uploads.daemon.end_of(request.job_id)
    uploader = await uploads.begin(request)
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.UPLOAD_EXPIRED.value
    refused = await uploader.form(CONTENT)
    assert (refused.code, refused.text) == (400, "request not valid anymore.")
    head = await uploader.tus("HEAD")
    assert head.code == 400


@pytest_twisted.ensureDeferred
async def test_only_the_last_signature_and_expiry_count(uploads: Uploads) -> None:
    first = await uploads.begin(upload_request())
    ended = uploads.daemon.end_of(first.request.job_id)
    again = evolve(first.request, signature="c2lnbmVkIGFnYWlu", expires_unix_s=time.time() + 0.5)
    second = await uploads.begin(again)
    assert (await first.form(CONTENT)).text == "signature validation failed."
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.UPLOAD_EXPIRED.value
    assert (await second.form(CONTENT)).text == "request not valid anymore."


@pytest_twisted.ensureDeferred
async def test_an_upload_that_has_begun_outlives_its_expiry(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(CONTENT))).code == 201
    await uploads.begin(evolve(uploader.request, expires_unix_s=time.time() - 1))
    assert (await uploader.patch(0, CONTENT)).code == 204
    assert published(world, await ended).read_bytes() == CONTENT


@pytest.mark.parametrize("is_form", [True, False], ids=["form", "tus"])
@pytest_twisted.ensureDeferred
async def test_a_file_of_another_format_is_refused(uploads: Uploads, world: World, is_form: bool) -> None:
    uploader = await uploads.begin(upload_request(format=ImageFormat.QCOW2))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    if is_form:
        answer = await uploader.form(LARGE, name="disk.qcow2")
    else:
        assert (await uploader.create(len(LARGE))).code == 201
        answer = await uploader.patch(0, LARGE)
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.FORMAT_MISMATCH.value
    assert (answer.code, answer.text) == (400, status.error.message)
    assert status.received_bytes < 24 * MIB, "refused long before its end"
    assert world.leftovers() == []
    if not is_form:
        assert (await uploader.tus("HEAD")).code == 410


@pytest_twisted.ensureDeferred
async def test_a_wrong_checksum_is_refused(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    answer = await uploader.form(CONTENT[::-1])
    assert answer.code == 400
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.CHECKSUM_MISMATCH.value
    assert world.leftovers() == []


@pytest_twisted.ensureDeferred
async def test_only_one_request_brings_bytes_at_a_time(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(LARGE))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(LARGE))).code == 201
    running = uploader.start_patch(0, LARGE, "--limit-rate", "10m")
    await until(lambda: uploads.received(uploader) > MIB, 60)
    locked = await uploader.patch(0, b"x")
    assert (locked.code, locked.headers["retry-after"]) == (423, "5")
    assert (await uploader.tus("HEAD")).code == 200
    running.send_signal(signal.SIGKILL)
    await deferToThread(running.wait)
    head = await uploader.offset()
    assert 0 < head.offset < len(LARGE)
    assert (await uploader.patch(head.offset, LARGE[head.offset :])).code == 204
    assert published(world, await ended).read_bytes() == LARGE


@pytest_twisted.ensureDeferred
async def test_a_client_that_stops_sending_keeps_no_place(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(LARGE))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(LARGE))).code == 201
    running = uploader.start_patch(0, LARGE, "--limit-rate", "4m")
    await until(lambda: uploads.received(uploader) > MIB, 60)
    running.send_signal(signal.SIGSTOP)
    try:
        await until(lambda: any("no data for" in step for step in uploads.steps(uploader)), 60)
    finally:
        running.kill()
        await deferToThread(running.wait)
    head = await uploader.offset()
    assert (await uploader.patch(head.offset, LARGE[head.offset :])).code == 204
    assert published(world, await ended).read_bytes() == LARGE


@pytest_twisted.ensureDeferred
async def test_client_and_daemon_can_end_an_upload(uploads: Uploads, world: World) -> None:
    uploader = await uploads.begin(upload_request(CONTENT))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(CONTENT))).code == 201
    assert (await uploader.patch(0, CONTENT[:MIB])).code == 204
    listing = await uploads.daemon.call(storage.STORAGE_JOBS, None, JobListing)
    mine = next(job for job in listing.jobs if job.job_id == uploader.request.job_id)
    assert (mine.received_bytes, mine.total_bytes) == (MIB, len(CONTENT))
    assert (await uploader.tus("DELETE")).code == 204
    status = await ended
    assert status.error is not None and status.error.code == TransferFailure.ABORTED.value
    assert world.leftovers() == []
    other = await uploads.begin(upload_request(CONTENT))
    assert (await other.patch(0, CONTENT[:MIB], Upload_Length=str(len(CONTENT)))).code == 204
    await uploads.daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(other.request.job_id), Acknowledgement)
    assert world.leftovers() == []
    assert (await other.tus("HEAD")).code == 404


@pytest_twisted.ensureDeferred
async def test_only_the_management_page_may_read_answers(uploads: Uploads) -> None:
    uploader = await uploads.begin(upload_request())
    asks = ("-H", "Access-Control-Request-Method: PATCH", "-H", "Access-Control-Request-Headers: x-signature")
    preflight = await uploader.ask("OPTIONS", "-H", f"Origin: {PAGE}", *asks, signed=False)
    assert preflight.code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "patch" in preflight.headers["access-control-allow-methods"]
    for name in ("x-signature", "x-metadata", "x-expires", "tus-resumable", "upload-offset"):
        assert name in preflight.headers["access-control-allow-headers"]
    other = await uploader.ask("OPTIONS", "-H", "Origin: https://other.example.test", *asks, signed=False)
    assert not [name for name in other.headers if name.startswith("access-control")]
    head = await uploader.tus("HEAD", "-H", f"Origin: {PAGE}")
    assert head.headers["access-control-allow-origin"] == PAGE
    assert "upload-offset" in head.headers["access-control-expose-headers"]
