# SPDX-License-Identifier: Apache-2.0
"""`systemvm template upload` against the SSVM's real processes, over TLS; only the daemon is prepared."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from attrs import frozen
from twisted.internet.threads import deferToThread

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, published
from integration.ssvm_lab.public_client import identity
from integration.ssvm_lab.world import STORE, VM, Builder, World
from systemvm.management.state.uploads import UploadRow
from systemvm.management.templates.upload_signing import expires_text, new_metadata
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_SETUP
from systemvm.wire.storage import DownloadState, DownloadStatus, ImageFormat
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
__all__ = ["daemon"]  # a fixture
TESTS = Path(__file__).resolve().parents[1]
TEMPLATE_ID = "6f2be588-7b5b-4a07-8ec0-0317c1bf4a5d"
MIB = 1 << 20
CONTENT = hashlib.shake_256(b"a command line").digest(24 * MIB)

#: Runs the command line with prepared answers; it stops before the piece at the offset that is given.
PROGRAM = """
import json, sys
from fake_daemon import FakeDaemon
from systemvm.cli import daemon_client, tus_client
from systemvm.cli.__main__ import main

answers, stop_at = json.loads(sys.argv[1]), int(sys.argv[2])
daemon_client.unix_call = FakeDaemon(**answers)
tus_client.PIECE_BYTES = 4 * 1024 * 1024
send = tus_client.TusClient.send

def slow(client, source, offset, *more):
    if offset == stop_at:
        print("stopped", flush=True)
        sys.stdin.read()
    return send(client, source, offset, *more)

tus_client.TusClient.send = slow
main(["--root", "/nowhere", *sys.argv[3:]])
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory), "256m") as built:
        yield built


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(CONTENT)
    return path


@frozen
class CommandLine:
    """`systemvm` in the public network."""

    world: World
    answers: dict[str, Any]

    def start(self, *arguments: str, stop_at: int = -1) -> subprocess.Popen[str]:
        entered = ["nsenter", f"--net=/run/netns/{self.world.world_namespace}", "env", f"PYTHONPATH={TESTS}"]
        program = [sys.executable, "-c", PROGRAM, json.dumps(self.answers), str(stop_at), *arguments]
        return subprocess.Popen(
            [*entered, *program], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate()
        return process.returncode, output


def order(upload_id: str, **more: Any) -> UploadRequest:
    """Return an order as the daemon makes it, with a signature that only has to be the same everywhere."""
    at = time.time() + 600
    row = UploadRow(
        1, upload_id, f"https://{VM}/upload/{upload_id}", new_metadata(), datetime.fromtimestamp(at, UTC)
    )
    values: dict[str, Any] = {
        "job_id": upload_id, "request_id": "r-1", "template_id": 204, "account_id": 2,
        "unique_name": "204-2-test", "description": "A tést = image", "format": ImageFormat.RAW,
        "store": STORE,
        "max_size_bytes": 1 << 30, "upload_id": upload_id, "post_url": row.post_url,
        "metadata": row.metadata, "expires": expires_text(row.expires), "expires_unix_s": at,
        "signature": "c2lnbmF0dXJl",
    }  # fmt: skip
    return UploadRequest(**(values | more))


def prepared(request: UploadRequest, authority: trustme.CA) -> dict[str, Any]:
    params = {
        "id": TEMPLATE_ID, "postURL": request.post_url, "metadata": request.metadata,
        "expires": request.expires, "signature": request.signature,
    }  # fmt: skip
    row = {
        "id": TEMPLATE_ID, "name": "disk", "isready": True, "status": "Download Complete",
        "checksum": hashlib.sha512(CONTENT).hexdigest(),
    }  # fmt: skip
    return {
        "listZones": {"zone": [{"id": "zone-1"}]},
        "getUploadParamsForTemplate": {"getuploadparams": params},
        "renewUploadParamsForTemplate": {"getuploadparams": params},
        "listTemplates": {"template": [row]},
        "ca__show": {"public_root_pem": authority.cert_pem.bytes().decode()},
    }


async def begun(daemon: Daemon, authority: trustme.CA, request: UploadRequest) -> None:
    await daemon.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
    status = await daemon.call(TEMPLATE_UPLOAD, request, DownloadStatus)
    assert status.state is DownloadState.DOWNLOAD_IN_PROGRESS


@pytest_twisted.ensureDeferred
async def test_file_is_uploaded_and_compared(
    daemon: Daemon, world: World, authority: trustme.CA, image: Path
) -> None:
    request = order("5d3b4d8e-0a6f-4f5c-8f3e-3a2a3f1d9c01")
    await begun(daemon, authority, request)
    ended = daemon.end_of(request.job_id)
    command_line = CommandLine(world, prepared(request, authority))
    code, output = await deferToThread(command_line.run, "template", "upload", str(image))
    assert code == 0 and f"disk is Ready: {TEMPLATE_ID}" in output, output
    status = await ended
    assert published(world, status).read_bytes() == CONTENT
    assert status.checksum is not None and hashlib.sha512(CONTENT).hexdigest() in status.checksum


@pytest_twisted.ensureDeferred
async def test_interrupted_upload_is_resumed(
    daemon: Daemon, world: World, authority: trustme.CA, image: Path
) -> None:
    request = order("5d3b4d8e-0a6f-4f5c-8f3e-3a2a3f1d9c02")
    await begun(daemon, authority, request)
    ended = daemon.end_of(request.job_id)
    command_line = CommandLine(world, prepared(request, authority))
    first = command_line.start("template", "upload", str(image), stop_at=8 * MIB)
    assert first.stdout is not None
    lines = iter(first.stdout.readline, "")
    await deferToThread(lambda: next(line for line in lines if "stopped" in line))
    first.send_signal(signal.SIGINT)
    output, _ = await deferToThread(first.communicate)
    assert first.returncode == 1, output
    assert f"template upload {image} --resume {TEMPLATE_ID}" in output
    again = ("template", "upload", str(image), "--resume", TEMPLATE_ID)
    code, output = await deferToThread(command_line.run, *again)
    assert code == 0, output
    assert published(world, await ended).read_bytes() == CONTENT


@pytest_twisted.ensureDeferred
async def test_certificate_of_another_ca_is_explained(
    daemon: Daemon, world: World, authority: trustme.CA, image: Path
) -> None:
    request = order("5d3b4d8e-0a6f-4f5c-8f3e-3a2a3f1d9c03")
    await begun(daemon, authority, request)
    command_line = CommandLine(world, prepared(request, trustme.CA()))
    code, output = await deferToThread(command_line.run, "template", "upload", str(image))
    assert code == 1 and f"certificate of {VM} cannot be verified" in output and "--cacert" in output, output
    root = image.with_name("root.pem")
    root.write_bytes(authority.cert_pem.bytes())
    trusting = ("template", "upload", str(image), "--cacert", str(root))
    code, output = await deferToThread(command_line.run, *trusting)
    assert code == 0, output
