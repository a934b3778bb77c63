# SPDX-License-Identifier: Apache-2.0
"""Uploads in tests: signed requests as the daemon makes them, and their client, which is curl."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet.threads import deferToThread

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.public_client import ORIGIN, Client
from integration.ssvm_lab.world import STORE
from systemvm.wire.storage import DownloadStatus, ImageFormat
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest

PAGE = "https://cloud.example.test"
KEY = b"the daemon's"
MIB = 1 << 20
CONTENT = hashlib.shake_256(b"an upload").digest(5_000_192)
LARGE = hashlib.shake_256(b"a large upload").digest(64 * MIB)


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
        return header_options(headers | {"X-expires": request.expires})

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
        return await self.ask(
            method, *header_options({"Tus-Resumable": "1.0.0"} | named), *arguments, body=body
        )

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
                *header_options({"Tus-Resumable": "1.0.0"}),
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
        about = header_options(headers | {"Content-Type": "application/offset+octet-stream"})
        data = ["--data-binary", f"@{self._file}"]
        command = ["-X", "PATCH", *arguments, *about, *self.signed, *data, "-o", "/dev/null"]
        return self.client.start(*command, self.request.post_url)


def header_options(headers: dict[str, str]) -> list[str]:
    """Return headers as options of curl."""
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
