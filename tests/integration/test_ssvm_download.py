# SPDX-License-Identifier: Apache-2.0
"""Downloads through the SSVM's real processes: each format and each failure of a source."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import zstandard

from integration.ssvm_lab import disk_images
from integration.ssvm_lab.bad_server import BODY
from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import BAD, GOOD, daemon, published
from integration.ssvm_lab.world import NAME, SERVER, Builder, World
from rpc_wait import until
from systemvm.wire.storage import (
    DownloadState,
    ImageFormat,
    QuotaReservation,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon"]  # a fixture


def zipped(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return out.getvalue()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory)) as built:
        raw = disk_images.raw()
        files = {
            "image.raw": raw,
            "image.raw.gz": gzip.compress(raw[: len(raw) // 2]) + gzip.compress(raw[len(raw) // 2 :]),
            "image.raw.bz2": bz2.compress(raw),
            "image.raw.xz": lzma.compress(raw),
            "image.raw.zst": zstandard.compress(raw),
            "image.iso": disk_images.iso(),
            "backing.qcow2": disk_images.qcow2(backing="/etc/passwd"),
            "datafile.qcow2": disk_images.qcow2(incompatible=4),
            "cut.raw.gz": gzip.compress(raw)[:-10],
            "twice.raw.gz": gzip.compress(gzip.compress(raw)),
            "image.raw.zip": zipped(("image.raw", raw)),
            "archive.zip": zipped(("image.raw", raw), ("README", b"read me")),
            "empty": b"",
        }
        for name, content in files.items():
            (built.files / name).write_bytes(content)
        disk_images.real_qcow2(built.files / "image.qcow2")
        with gzip.open(built.files / "bomb.gz", "wb", compresslevel=9) as bomb:
            for _ in range(600):
                bomb.write(bytes(1 << 20))
        yield built


FORMATS = {
    "image.raw": ImageFormat.RAW, "image.raw.gz": ImageFormat.RAW, "image.raw.bz2": ImageFormat.RAW,
    "image.raw.xz": ImageFormat.RAW, "image.raw.zst": ImageFormat.RAW, "image.iso": ImageFormat.ISO,
    "image.qcow2": ImageFormat.QCOW2, "image.raw.zip": ImageFormat.RAW,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest_twisted.ensureDeferred
async def test_image_is_published(world: World, daemon: Daemon, name: str) -> None:
    served = (world.files / name).read_bytes()
    checksum = f"{{SHA-256}}{hashlib.sha256(served).hexdigest()}"
    status = await daemon.download(request(world, f"{GOOD}/{name}", FORMATS[name], checksum=checksum))
    image = published(world, status)
    wanted = (world.files / "image.raw").read_bytes() if FORMATS[name] is ImageFormat.RAW else served
    assert image.read_bytes() == wanted
    assert status.checksum == checksum
    assert status.virtual_size_bytes == (64 << 20 if name == "image.qcow2" else len(wanted))
    assert image.stat().st_blocks * 512 <= len(wanted)
    assert (status.received_bytes, status.percent) == (len(served), 100)
    if name == "image.raw":
        assert image.stat().st_blocks * 512 < len(wanted), "zeros were written"


@pytest.mark.parametrize(
    "path", ["good", "chunked", "a/chain?n=4", "redirect?to=good", "redirect?code=308&to=good"]
)
@pytest_twisted.ensureDeferred
async def test_redirects_and_chunks_lead_to_the_file(world: World, daemon: Daemon, path: str) -> None:
    status = await daemon.download(request(world, f"{BAD}/{path}"))
    assert published(world, status).read_bytes() == BODY
    assert status.checksum == f"{{SHA-512}}{hashlib.sha512(BODY).hexdigest()}"


@pytest_twisted.ensureDeferred
async def test_body_that_ends_with_the_connection_needs_a_checksum(world: World, daemon: Daemon) -> None:
    failed = await daemon.download(request(world, f"{BAD}/no_length"))
    assert failed.error is not None
    assert failed.error.code == "length_unknown"
    checksum = hashlib.md5(BODY).hexdigest()
    published(world, await daemon.download(request(world, f"{BAD}/no_length", checksum=checksum)))


@pytest.mark.parametrize(
    "location",
    ["mit%20Leerzeichen%20%25C3%25BC", "mit%2520Leerzeichen%20%C3%BC"],
    ids=["blanks", "raw UTF-8"],
)
@pytest_twisted.ensureDeferred
async def test_raw_bytes_in_a_location_lead_to_the_file(world: World, daemon: Daemon, location: str) -> None:
    url = f"{BAD}/redirect_bytes?/wanted_name?{location}"
    assert published(world, await daemon.download(request(world, url))).read_bytes() == BODY


@pytest_twisted.ensureDeferred
async def test_an_unrequested_content_encoding_is_hashed_as_sent_and_decompressed(
    world: World, daemon: Daemon
) -> None:
    sent = gzip.compress(BODY, mtime=0)
    checksum = f"{{SHA-256}}{hashlib.sha256(sent).hexdigest()}"
    status = await daemon.download(request(world, f"{BAD}/encoded", checksum=checksum))
    assert published(world, status).read_bytes() == BODY
    assert (status.checksum, status.received_bytes) == (checksum, len(sent))


FAILURES: list[tuple[str, str, dict[str, Any], str]] = [
    # URL, code, more of the request, part of the message
    (f"{GOOD}/image.raw", "checksum_mismatch", {"checksum": "{SHA-256}" + "0" * 64}, "match the given value"),
    (f"{GOOD}/image.raw", "checksum_invalid", {"checksum": "{SHA-256}12g"}, "is not hexadecimal"),
    (f"{GOOD}/absent", "http_status", {}, "HTTP Server returned 404 (expected 200 OK)"),
    (f"{BAD}/status?code=503", "http_unavailable", {}, "503"),
    (f"{BAD}/status?code=416", "length_wrong", {}, "empty"),
    (f"http://{SERVER}:8001/", "connection_refused", {}, f"connection refused by {SERVER}"),
    ("http://203.0.113.77/", "connection_failed", {}, "203.0.113.77"),
    ("http://absent.example.test/", "name_server_failed", {}, "absent.example.test"),
    (f"{GOOD}/empty", "length_wrong", {}, "empty"),
    (f"{BAD}/truncated", "truncated", {}, "after 524288 of 1048576 bytes"),
    (f"{BAD}/reset", "", {}, ""),
    (f"{BAD}/length_too_small", "length_wrong", {}, "sends more"),
    (f"{BAD}/changes", "length_wrong", {}, "announced 1048576 bytes first"),
    (f"{BAD}/chunked_truncated", "truncated", {}, "the connection ended"),
    (f"{BAD}/chunked_broken", "", {}, ""),
    (f"{BAD}/chunked_endless", "too_large", {"max_size_bytes": 4 << 20}, "too large"),
    (f"{BAD}/both_lengths", "http_invalid", {}, "both"),
    (f"{BAD}/two_lengths", "http_invalid", {}, ""),
    (f"{BAD}/brotli", "content_encoding", {}, "Content-Encoding br"),
    (f"{BAD}/part", "http_status", {}, "206"),
    (f"{BAD}/not_http", "http_invalid", {}, "not HTTP"),
    (f"{BAD}/many_headers", "", {}, ""),
    (f"{BAD}/hang_up", "connection_lost", {}, "without an answer"),
    (f"{BAD}/stall", "stalled", {}, "after 4096 bytes"),
    (f"{BAD}/trickle", "stalled", {}, "bytes came in"),
    (f"{BAD}/silent", "stalled", {}, "in time"),
    (f"{BAD}/error_page", "format_mismatch", {}, "web page"),
    (f"{GOOD}/image.raw", "too_large", {"max_size_bytes": 1 << 20}, "too large"),
    (f"{GOOD}/bomb.gz", "too_large", {"max_size_bytes": 1 << 26}, "decompresses to more"),
    (f"{GOOD}/cut.raw.gz", "decompression", {}, "truncated"),
    (f"{GOOD}/twice.raw.gz", "format_mismatch", {}, "gzip file inside another"),
    (f"{GOOD}/archive.zip", "archive_refused", {}, "several files"),
    (f"{GOOD}/image.qcow2", "format_mismatch", {}, "it is a QCOW2"),
    (f"{GOOD}/image.raw", "format_mismatch", {"format": ImageFormat.QCOW2}, "registered as QCOW2"),
    (f"{GOOD}/image.raw", "format_mismatch", {"format": ImageFormat.ISO}, "registered as ISO"),
    (f"{GOOD}/backing.qcow2", "format_unsafe", {"format": ImageFormat.QCOW2}, "backing file reference"),
    (f"{GOOD}/datafile.qcow2", "format_unsafe", {"format": ImageFormat.QCOW2}, "external data file"),
    ("https://other.example.test:8443/image.raw", "", {"source_ca_pem": None}, "cannot be verified"),
    (f"{GOOD}:8443/image.raw", "tls_failed", {}, "for another name"),
    (f"{GOOD}:9443/image.raw", "tls_failed", {}, "cannot be verified"),
    (f"https://{SERVER}:80/", "tls_failed", {}, "TLS with"),
    ("http://192.168.77.1/image.raw", "connection_failed", {}, "cannot be reached: Network is unreachable"),
    (f"{BAD}/loop", "redirects", {}, "more than 5 times"),
    (f"{BAD}/chain?n=6", "redirects", {}, "more than 5 times"),
    (f"{BAD}/nowhere", "url_invalid", {}, "Location"),
    (f"{BAD}/long_location", "url_invalid", {}, "redirect is too long"),
    (f"{BAD}/redirect?to=ftp://{NAME}/x", "url_invalid", {}, "unsupported scheme: ftp"),
    (f"{BAD}/redirect?to=file:///etc/passwd", "url_invalid", {}, "unsupported scheme: file"),
    (f"{GOOD}/down/", "redirects", {}, "from https to http"),
    (f"{BAD}/turns?to=http://127.0.0.1/", "redirects", {}, "redirects now"),
    ("ftp://203.0.113.10/x", "url_invalid", {}, "unsupported scheme: ftp"),
    ("http://user:secret@203.0.113.10/x", "url_invalid", {}, "user name"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "code", "more", "message"), FAILURES, ids=lambda value: str(value)[:48])
@pytest_twisted.ensureDeferred
async def test_failure_has_a_code_and_leaves_nothing(
    world: World, daemon: Daemon, url: str, code: str, more: dict[str, Any], message: str
) -> None:
    status = await daemon.download(request(world, url, **more))
    assert status.state is DownloadState.DOWNLOAD_ERROR, status
    assert status.error is not None
    assert status.error.code == code or not code, status.error
    assert message in status.error.message
    assert "secret" not in status.error.message
    assert status.error.code != "internal"
    assert world.leftovers() == []
    assert world.job_directories() == []
    assert world.forbidden_connections() == []
    await until(lambda: world.mover_pids() == [])


@pytest.mark.parametrize("compressed", [False, True])
@pytest_twisted.ensureDeferred
async def test_an_image_above_the_quota_is_refused_before_it_is_stored(
    world: World, daemon: Daemon, compressed: bool
) -> None:
    data = bytes(range(256)) * 4096
    name = "quota.raw.gz" if compressed else "quota.raw"
    (world.files / name).write_bytes(gzip.compress(data) if compressed else data)
    url = f"{GOOD}/{name}"
    status = await daemon.download(request(world, url, quota_bytes=len(data) - 1))
    assert status.error is not None
    assert (status.error.code, status.received_bytes if not compressed else 0) == ("quota_exceeded", 0)
    assert world.leftovers() == []
    assert (await daemon.download(request(world, url, quota_bytes=len(data)))).error is None


@pytest_twisted.ensureDeferred
async def test_the_size_is_reserved_at_the_daemon_before_the_first_byte(world: World, daemon: Daemon) -> None:
    """This SSVM does not know what others have taken since the job was ordered."""
    data = bytes(range(256)) * 4096
    (world.files / "reserved.raw").write_bytes(data)
    asked = request(world, f"{GOOD}/reserved.raw", quota_bytes=1 << 30)
    assert (await daemon.download(asked)).error is None
    size = QuotaReservation(asked.job_id, len(data))
    assert daemon.reserved == [size, size], "before the first byte, and before it is published"
    daemon.refuses_from_bytes = len(data)
    status = await daemon.download(request(world, f"{GOOD}/reserved.raw", quota_bytes=1 << 30))
    assert status.error is not None
    assert (status.error.code, status.received_bytes) == ("quota_exceeded", 0)
    assert world.job_directories() == []


@pytest_twisted.ensureDeferred
async def test_what_a_compressed_image_becomes_is_reserved_before_it_is_published(
    world: World, daemon: Daemon
) -> None:
    data = bytes(range(256)) * 4096
    (world.files / "becomes.raw.gz").write_bytes(gzip.compress(data))
    daemon.refuses_from_bytes = len(data)
    status = await daemon.download(request(world, f"{GOOD}/becomes.raw.gz", quota_bytes=1 << 30))
    assert status.error is not None
    assert status.error.code == "quota_exceeded"
    assert daemon.reserved[-1].size_bytes == len(data)
    assert world.leftovers() == []
    assert world.job_directories() == []
