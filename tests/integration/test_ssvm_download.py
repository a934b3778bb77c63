# SPDX-License-Identifier: Apache-2.0
"""Downloads through the SSVM's real processes: what must work, and that all that must not leaves nothing."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
import zstandard
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher

from integration.ssvm_lab import disk_images
from integration.ssvm_lab.bad_server import BODY
from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.world import NAME, SERVER, STORE, VM, Builder, World
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.store import java_properties
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadState,
    DownloadStatus,
    ImageFormat,
    JobListing,
    ListedTemplate,
    Store,
    StoreStats,
    TemplateDelete,
    TemplateListing,
    TemplateListRequest,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
BAD = f"http://{SERVER}:8000"
GOOD = f"https://{NAME}"


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
            "archive.zip": b"PK\x03\x04" + bytes(1020),
            "empty": b"",
        }
        for name, content in files.items():
            (built.files / name).write_bytes(content)
        disk_images.real_qcow2(built.files / "image.qcow2")
        with gzip.open(built.files / "bomb.gz", "wb", compresslevel=9) as bomb:
            for _ in range(600):
                bomb.write(bytes(1 << 20))
        yield built


@pytest_twisted.async_yield_fixture
async def daemon(world: World) -> Any:
    world.journal.write_text("")
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        started = await Daemon(Path(directory), world).start()
        yield started
        await started.close()
    for path in world.store.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def published(world: World, status: DownloadStatus) -> Path:
    """The image's path after everything a published template must be has been looked at."""
    assert status.state is DownloadState.DOWNLOADED, status
    assert status.install_path is not None
    image = world.store / status.install_path
    assert image.parent == world.store / "template/tmpl/2/204"
    assert sorted(path.name for path in image.parent.iterdir()) == sorted([image.name, "template.properties"])
    assert image.stat().st_size == status.physical_size_bytes
    assert (image.stat().st_uid, image.stat().st_mode & 0o777) == (0, 0o644)
    assert world.job_directories() == []
    values = java_properties.parse((image.parent / "template.properties").read_text())
    assert values["filename"] == image.name
    assert values["size"] == str(image.stat().st_size)
    assert values["virtualsize"] == str(status.virtual_size_bytes)
    assert values["uniquename"] == "204-2-test"
    assert values["description"] == "A tést = image"
    assert values["checksum"] == status.checksum
    return image


FORMATS = {
    "image.raw": ImageFormat.RAW, "image.raw.gz": ImageFormat.RAW, "image.raw.bz2": ImageFormat.RAW,
    "image.raw.xz": ImageFormat.RAW, "image.raw.zst": ImageFormat.RAW, "image.iso": ImageFormat.ISO,
    "image.qcow2": ImageFormat.QCOW2,
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
async def test_ways_to_a_good_file(world: World, daemon: Daemon, path: str) -> None:
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
    ("http://absent.example.test/", "name_not_found", {}, "absent.example.test"),
    (f"{GOOD}/empty", "length_wrong", {}, "empty"),
    (f"{BAD}/truncated", "truncated", {}, "after 524288 of 1048576 bytes"),
    (f"{BAD}/reset", "", {}, ""),
    (f"{BAD}/says_less", "length_wrong", {}, "sends more"),
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
    (f"{GOOD}/archive.zip", "decompression", {}, "zip files are not supported"),
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


@pytest.mark.parametrize(("url", "code", "more", "words"), FAILURES, ids=lambda value: str(value)[:48])
@pytest_twisted.ensureDeferred
async def test_failure_is_clear_and_leaves_nothing(
    world: World, daemon: Daemon, url: str, code: str, more: dict[str, Any], words: str
) -> None:
    status = await daemon.download(request(world, url, **more))
    assert status.state is DownloadState.DOWNLOAD_ERROR, status
    assert status.error is not None
    assert status.error.code == code or not code, status.error
    assert words in status.error.message
    assert "secret" not in status.error.message
    assert status.error.code != "internal"
    assert world.leftovers() == []
    assert world.job_directories() == []
    assert world.forbidden_connections() == []
    assert world.mover_pids() == []


DENIED = [
    "http://127.0.0.1/", "http://localhost/", "http://169.254.0.1/", "http://10.11.0.1/", "http://10.12.0.2/",
    f"http://{VM}/", "http://loop.example.test/", "http://mixed.example.test/", "http://management.example.test/",
    "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:a0b:1]/", "http://0.0.0.0/", "http://[::]/",
    "http://[64:ff9b::7f00:1]/", "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/",
]  # fmt: skip


@pytest.mark.parametrize("by_redirect", [False, True], ids=["at first", "by redirect"])
@pytest.mark.parametrize("url", DENIED)
@pytest_twisted.ensureDeferred
async def test_a_denied_address_receives_no_packet(
    world: World, daemon: Daemon, url: str, by_redirect: bool
) -> None:
    status = await daemon.download(request(world, f"{BAD}/redirect?to={url}" if by_redirect else url))
    assert status.error is not None
    assert status.error.code in ("url_denied", "url_invalid")
    assert world.forbidden_connections() == []
    assert world.leftovers() == []


@pytest_twisted.ensureDeferred
async def test_the_clouds_own_public_addresses_are_denied_whether_a_port_is_open_or_not(
    world: World, daemon: Daemon
) -> None:
    """A hypervisor may share its network with image servers: the daemon names its address with the job."""
    closed_port = 8099
    urls = (f"http://{SERVER}/image.raw", f"http://{SERVER}:{closed_port}/image.raw", f"https://{SERVER}/x")
    errors = {
        (status.error.code, status.error.message, status.error.hint)
        for status in [
            await daemon.download(request(world, url, denied_networks=[f"{SERVER}/32"])) for url in urls
        ]
        if status.error is not None
    }
    [(code, message, _)] = errors
    assert code == "url_denied"
    assert "an address of this cloud's own" in message
    assert str(SERVER) not in message


@pytest_twisted.ensureDeferred
async def test_a_name_with_changing_addresses_is_resolved_once_and_pinned(
    world: World, daemon: Daemon
) -> None:
    """DNS rebinding: probe and transfer both go where the one look-up led; the next job sees loopback."""
    url = "http://a.flip.example.test:8000/good"
    published(world, await daemon.download(request(world, url)))
    assert world.questions.read_text() == "1"
    shutil.rmtree(world.store / "template")
    refused = await daemon.download(request(world, url))
    assert refused.error is not None
    assert refused.error.code == "url_denied"
    # a redirect to itself is a look-up of its own, and judged
    again = f"http://b.flip.example.test:8000/redirect?to={url.replace('a.flip', 'b.flip')}"
    hopped = await daemon.download(request(world, again))
    assert hopped.error is not None
    assert hopped.error.code == "url_denied"
    assert (world.forbidden_connections(), world.leftovers()) == ([], [])


@pytest_twisted.ensureDeferred
async def test_full_store(world: World, daemon: Daemon) -> None:
    filler = world.store / "filler"
    free = shutil.disk_usage(world.store).free
    filler.write_bytes(bytes(free - (2 << 20)))
    known = await daemon.download(request(world, f"{BAD}/good", ImageFormat.RAW))
    published(world, known)
    shutil.rmtree(world.store / "template")
    # raw is not refused beforehand, because its holes may fit: it fails while it is written
    status = (
        await daemon.download(request(world, f"http://{SERVER}/random.raw"), 30) if _random(world) else known
    )
    assert status.error is not None
    assert status.error.code == "store_full"
    assert "secondary storage is full" in status.error.message
    early = await daemon.download(request(world, f"http://{SERVER}/random.raw", ImageFormat.ISO))
    assert early.error is not None
    assert early.error.code == "store_full"
    assert world.leftovers() == ["filler"]


def _random(world: World) -> bool:
    return bool((world.files / "random.raw").write_bytes(os.urandom(4 << 20)))


@pytest_twisted.ensureDeferred
async def test_progress_flows_and_a_repeated_order_answers_it(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    first = await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    assert first.state is DownloadState.DOWNLOAD_IN_PROGRESS
    await until(lambda: len(daemon.progress) >= 4, 30)
    again = await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    assert again.state is DownloadState.DOWNLOAD_IN_PROGRESS
    assert again.total_bytes == len(BODY)
    received = [status.received_bytes for status in daemon.progress]
    assert received == sorted(received)
    # the connection to the daemon may go and come: the end is repeated until it is answered
    daemon.cut_off()
    await until(lambda: world.mover_pids() == [], 30)
    await daemon.connect_agent()
    published(world, await ended)
    known = await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    assert known.state is DownloadState.DOWNLOADED


@pytest_twisted.ensureDeferred
async def test_abort_stops_at_once_and_leaves_nothing(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress), 30)
    assert len(world.job_directories()) == 1
    await daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(order.job_id), Acknowledgement)
    assert world.mover_pids() == []
    assert (world.leftovers(), world.job_directories()) == ([], [])


@pytest_twisted.ensureDeferred
async def test_a_killed_mover_is_restarted_once(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress), 30)
    _kill(world.mover_pids())
    published(world, await ended)


@pytest_twisted.ensureDeferred
async def test_a_mover_killed_twice_fails_only_its_job(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    seen: set[int] = set()
    for _ in range(2):
        await until(lambda: bool(set(world.mover_pids()) - seen), 30)
        fresh = set(world.mover_pids()) - seen
        seen.update(fresh)
        _kill(list(fresh))
    status = await ended
    assert status.error is not None
    assert (status.error.code, "signal 9" in status.error.message) == ("worker_died", True)
    assert (world.leftovers(), world.job_directories()) == ([], [])
    published(world, await daemon.download(request(world, f"{BAD}/good")))


@pytest_twisted.ensureDeferred
async def test_movers_are_forked_from_one_warm_process(world: World, daemon: Daemon) -> None:
    """No interpreter starts for an image; and a mover has nothing but what it is given."""
    await daemon.download(request(world, f"{BAD}/good", template_id=205))
    servers = world.fork_server_pids()
    assert len(servers) == 1
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress), 30)
    (mover,) = (Path(f"/proc/{pid}") for pid in world.mover_pids())
    opened = {int(path.name): str(path.readlink()) for path in (mover / "fd").iterdir()}
    # standard input and output are nothing; then control, source, directory; then its own eventfd and image
    assert (opened[0], opened[1]) == ("/dev/null", "/dev/null")
    kinds = [opened[number].partition(":")[0] for number in sorted(opened) if number >= 3]
    assert kinds[:2] == ["socket", "socket"]
    assert kinds[2].startswith(str(world.store))
    assert sorted(kinds[3:]) in (["anon_inode"], sorted(["anon_inode", f"{kinds[2]}/image"])), opened
    assert (mover / "environ").read_bytes() == b"LC_ALL=C.UTF-8\0"
    status = (mover / "status").read_text()
    assert "\nNoNewPrivs:\t1\n" in status
    assert "\nSeccomp:\t2\n" in status
    published(world, await ended)
    assert world.fork_server_pids() == servers


@pytest_twisted.ensureDeferred
async def test_a_killed_fork_server_is_replaced_and_its_jobs_go_on(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress), 30)
    movers, servers = set(world.mover_pids()), world.fork_server_pids()
    _kill(servers)
    await until(lambda: not movers & set(world.mover_pids()), 10)  # no mover outlives the server
    published(world, await ended)
    assert set(world.fork_server_pids()).isdisjoint(servers)


@pytest_twisted.ensureDeferred
async def test_jobs_of_a_killed_fetch_are_restarted_once(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: bool(world.mover_pids()) and bool(daemon.progress), 30)
    movers = set(world.mover_pids())
    _kill(world.fetch_pids())
    await until(lambda: not movers & set(world.mover_pids()), 10)  # no mover outlives its fetch
    published(world, await ended)


@pytest_twisted.ensureDeferred
async def test_fetch_killed_twice_ends_the_job(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/slow")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    seen: set[int] = set()
    for _ in range(2):
        await until(lambda: bool(set(world.mover_pids()) - seen) and bool(world.fetch_pids()), 30)
        seen.update(world.mover_pids())
        _kill(world.fetch_pids())
    status = await ended
    assert status.error is not None
    assert status.error.code == "worker_died"
    # what the last mover left is removed when the store is set up, and the agent lives
    await daemon.call(storage.STORAGE_SETUP, STORE, StoreStats)
    assert (world.leftovers(), world.job_directories()) == ([], [])


def _kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_setup_stats_and_delete(world: World, daemon: Daemon) -> None:
    left = world.store / ".systemvm-jobs/s-1-VM/forgotten"
    foreign = world.store / ".systemvm-jobs/s-9-VM/busy"
    for path in (left, foreign):
        path.mkdir(parents=True)
        (path / "image").write_bytes(b"part")
    stats = await daemon.call(storage.STORAGE_SETUP, STORE, StoreStats)
    assert stats.capacity_bytes == 96 << 20
    assert not left.exists()
    assert foreign.exists(), "another SSVM's job was swept away"
    assert {path.name for path in world.store.iterdir()} >= {"template", "snapshots", "volumes"}
    order = request(world, f"{BAD}/good")
    published_path = None
    status = await daemon.download(order)
    published_path = world.store / str(status.install_path)
    assert published_path.exists()
    assert (await daemon.call(storage.STORAGE_STATS, STORE, StoreStats)).used_bytes >= 1 << 20
    for _ in range(2):
        await daemon.call(
            storage.TEMPLATE_DELETE, TemplateDelete(order.job_id, STORE, 2, 204), Acknowledgement
        )
        assert not published_path.parent.exists()
    assert world.leftovers() == [".systemvm-jobs/s-9-VM/busy/image"]


@pytest_twisted.ensureDeferred
async def test_a_published_job_is_found_by_a_restarted_agent(world: World, daemon: Daemon) -> None:
    order = request(world, f"{BAD}/good")
    done = await daemon.download(order)
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        other = await Daemon(Path(directory), world).start()
        try:
            found = await other.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
        finally:
            await other.close()
    assert (found.state, found.install_path) == (DownloadState.DOWNLOADED, done.install_path)


@pytest_twisted.ensureDeferred
async def test_planted_links_are_not_followed(world: World, daemon: Daemon, tmp_path: Path) -> None:
    """Another client of the store may put anything in the way."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("keep")
    (world.store / "template/tmpl").mkdir(parents=True)
    (world.store / "template/tmpl/2").symlink_to(outside)
    with pytest.raises(RpcError) as refused:
        await daemon.download(request(world, f"{BAD}/good"))
    assert refused.value.reason == "store_failed"
    with pytest.raises(RpcError):
        await daemon.call(storage.TEMPLATE_DELETE, TemplateDelete("x", STORE, 2, 204), Acknowledgement)
    assert [path.name for path in outside.iterdir()] == ["keep"]


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        (Store("127.0.0.1", "/export"), "store_unreachable"),
        (Store("storage.example.test", "/export"), "request_invalid"),
        (Store("10.12.0.2", "relative"), "request_invalid"),
        (Store("10.12.0.2", "/a/../b"), "request_invalid"),
        (Store("10.12.0.2", "/export", "9"), "request_invalid"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_store_that_cannot_be_mounted(world: World, daemon: Daemon, store: Store, reason: str) -> None:
    for call in (
        lambda: daemon.call(storage.STORAGE_SETUP, store, StoreStats),
        lambda: daemon.call(
            storage.TEMPLATE_DOWNLOAD, request(world, f"{BAD}/good", store=store), DownloadStatus
        ),
    ):
        with pytest.raises(RpcError) as refused:
            await call()
        assert refused.value.reason == reason
        assert refused.value.message


@pytest_twisted.ensureDeferred
async def test_one_request_id_is_in_the_log_of_every_process(world: World, daemon: Daemon) -> None:
    told: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        told.append(formatEvent(event))

    globalLogPublisher.addObserver(cast(ILogObserver, observe))
    try:
        published(world, await daemon.download(request(world, f"{BAD}/good", request_id="req-4711")))
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, observe))
    assert [line for line in told if "req-4711" in line], "the agent, which runs in this process"
    fetch = [line for line in world.said("fetch").splitlines() if "req-4711" in line]
    assert [line for line in fetch if "begins, template" in line], "fetch"
    assert [line for line in fetch if "mover of job" in line], "its mover"


@pytest_twisted.ensureDeferred
async def test_a_store_is_listed_and_an_absent_one_is_an_error(world: World, daemon: Daemon) -> None:
    wanted = request(world, f"{BAD}/good")
    published(world, await daemon.download(wanted))
    ask = TemplateListRequest(STORE)
    listing: TemplateListing = await daemon.call(storage.TEMPLATE_LIST, ask, TemplateListing)
    assert listing == TemplateListing([ListedTemplate(2, 204, wanted.job_id)])
    jobs: JobListing = await daemon.call(storage.STORAGE_JOBS, None, JobListing)
    assert [job.job_id for job in jobs.jobs if job.job_id == wanted.job_id] == [wanted.job_id]
    with pytest.raises(RpcError) as refused:
        away = TemplateListRequest(Store(STORE.server, "/no/such/export"))
        await daemon.call(storage.TEMPLATE_LIST, away, TemplateListing)
    assert refused.value.reason, "an error with a code of its own, never an empty page"
