# SPDX-License-Identifier: Apache-2.0
"""A copy between zones: one SSVM's real processes download from the real processes of another one.

The source is `serve` and the store's helper of a second SSVM, with a store of its own, on the public network.
The destination denies that network's addresses as this cloud's own, as every SSVM does.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from attrs import evolve
from twisted.internet import reactor

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import daemon
from integration.ssvm_lab.world import AGENTS, STORE, Builder, World, kill_all, run
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller
from systemvm.ssvm.agent.serving import Serving
from systemvm.ssvm.store_messages import mount_id
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import ExtractLink, ExtractLinks, ExtractSetup
from systemvm.wire.source_networks import SsvmAddress
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    Store,
    StoreStats,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(400)]

__all__ = ["daemon"]  # a fixture

OTHER = "203.0.113.120"
FAR = Store("10.22.0.2", "/export/far")
LARGE_BYTES = 160 << 20
#: Behind several checkpoints.
STOP_AFTER_BYTES = 100 << 20
MOST_TWICE_BYTES = 64 << 20
#: What TLS, TCP and IP add to the bytes of an image.
OVERHEAD = 1.05


class FarSsvm:
    """The SSVM of the other zone: its agent's part runs in the test, serve and the helper are processes."""

    def __init__(self, directory: Path, world: World) -> None:
        self._directory, self._world = directory, world
        self._mounts = directory / "mnt"
        self.store = self._mounts / mount_id(FAR)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.data = os.urandom(LARGE_BYTES)
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes().decode()
        issued = authority.issue_cert(OTHER)
        chain = "".join(each.bytes().decode() for each in issued.cert_chain_pems)
        self._setup = ExtractSetup(f"https://{OTHER}", chain, issued.private_key_pem.bytes().decode())
        self._serving = Serving(reactor, directory / "serve.sock")
        self.link = ExtractLink(str(uuid.uuid4()), "tiny.raw", FAR, 7, 304, time.time() + 600)

    @property
    def url(self) -> str:
        return f"https://{OTHER}{self.link.path}"

    def build(self) -> None:
        self.store.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", "size=200m", f"{FAR.server}:{FAR.path}", str(self.store))
        run("ip", "-n", self._world.world_namespace, "addr", "add", f"{OTHER}/24", "dev", "eth0")
        place = self.store / "template/tmpl/7/304"
        place.mkdir(parents=True)
        (place / "image.raw").write_bytes(self.data)
        size = len(self.data)
        (place / "template.properties").write_text(
            f"id=304\nuniquename=304-7-x\nfilename=image.raw\nraw=true\nraw.filename=image.raw\nraw.size={size}\n"
            f"raw.virtualsize={size}\nsize={size}\nvirtualsize={size}\npublic=true\nhvm=true\ndescription=x\n"
            "checksum=\n"
        )
        python = [sys.executable, "-m"]
        helper = [*python, "systemvm.ssvm.store.operations", "--mount-root", str(self._mounts)]
        self._start("-l", str(self._directory / "store.sock"), *helper)
        self.start()

    def start(self) -> None:
        """Start serve, as systemd does after a kill."""
        self.serve = self._start(
            "-l", str(self._directory / "serve.sock"), "-l", f"{OTHER}:443", "--fdname=control:public",
            sys.executable, "-m", "systemvm.ssvm.serve.main",
            "--store-socket", str(self._directory / "store.sock"),
        )  # fmt: skip

    def kill(self) -> None:
        """End the listener and serve, as when the VM is off."""
        os.killpg(self.serve.pid, signal.SIGKILL)
        self.serve.wait(120)
        (self._directory / "serve.sock").unlink(missing_ok=True)

    async def offer(self, *links: ExtractLink) -> None:
        """Offer these links until they are taken, as the daemon does: the first call can notice a kill."""
        call = Call(Caller("management", "management"), "r", None)
        is_taken = False
        while not is_taken:
            await until(self._is_listening)
            with suppress(RpcError):
                await self._serving.put_links(call, ExtractLinks(list(links), is_first=True))
                await self._serving.set_up(call, self._setup)
                is_taken = True

    def _is_listening(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:  # the file exists a moment before the listener does
            return probe.connect_ex(str(self._directory / "serve.sock")) == 0

    def close(self) -> None:
        self._serving.stop()
        for process in self._processes:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, number)
                    process.wait(5)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
        run("ip", "-n", self._world.world_namespace, "addr", "del", f"{OTHER}/24", "dev", "eth0")
        run("umount", str(self.store))

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        entered = ["nsenter", f"--net=/run/netns/{self._world.world_namespace}"]
        with (self._directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [*entered, "systemd-socket-activate", "-E", "PYTHONPATH", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(AGENTS)},
            )  # fmt: skip
        self._processes.append(process)
        return process


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory), "300m") as built:
        yield built


@pytest.fixture
def far(world: World) -> Iterator[FarSsvm]:
    with tempfile.TemporaryDirectory(prefix="far") as directory:
        ssvm = FarSsvm(Path(directory), world)
        try:
            ssvm.build()
            yield ssvm
        finally:
            ssvm.close()


def order(world: World, far: FarSsvm, **more: Any) -> DownloadRequest:
    checksum = f"{{SHA-256}}{hashlib.sha256(far.data).hexdigest()}"
    values: dict[str, Any] = {
        "checksum": checksum,
        "source_ca_pem": far.ca_pem,
        "source_server": SsvmAddress(OTHER, 443),
        "content_id": "copy 1",
        "denied_networks": ["203.0.113.96/27"],
    }
    return request(world, far.url, **(values | more))


def check(world: World, far: FarSsvm, status: DownloadStatus) -> None:
    assert status.state is DownloadState.DOWNLOADED, status.error
    assert (world.store / str(status.install_path)).read_bytes() == far.data
    assert world.job_directories() == []


def sent_bytes(world: World) -> int:
    """Return what has left the namespace of the source."""
    shown = subprocess.run(
        ["ip", "-n", world.world_namespace, "-s", "-j", "link", "show", "dev", "eth0"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["bytes"])


def received(daemon: Daemon, job_id: str) -> int:
    mine = [one.received_bytes for one in daemon.progress if one.job_id == job_id]
    return mine[-1] if mine else 0


class Slow:
    """Paces the network, so that a test can do something in the middle of a transfer."""

    def __init__(self, world: World, far: FarSsvm) -> None:
        run("tc", "-n", world.world_namespace, "qdisc", "add", "dev", "eth0", "root", "tbf",
            "rate", "250mbit", "burst", "256k", "latency", "50ms")  # fmt: skip
        self._world = world

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *details: object) -> None:
        run("tc", "-n", self._world.world_namespace, "qdisc", "del", "dev", "eth0", "root")


@pytest_twisted.ensureDeferred
async def test_an_image_comes_from_the_ssvm_of_another_zone(
    world: World, daemon: Daemon, far: FarSsvm
) -> None:
    await far.offer(far.link)
    check(world, far, await daemon.download(order(world, far)))


@pytest_twisted.ensureDeferred
async def test_only_a_copy_reaches_the_other_ssvm(world: World, daemon: Daemon, far: FarSsvm) -> None:
    """Whoever knows a link cannot have this SSVM download it: the address stays denied."""
    await far.offer(far.link)
    status = await daemon.download(order(world, far, source_server=None))
    assert status.error is not None
    assert status.error.code == "url_denied"
    elsewhere = await daemon.download(order(world, far, source_server=SsvmAddress("203.0.113.121", 443)))
    assert elsewhere.error is not None
    assert elsewhere.error.code == "url_denied"


@pytest_twisted.ensureDeferred
async def test_a_link_is_needed_and_the_certificate_is_verified(
    world: World, daemon: Daemon, far: FarSsvm
) -> None:
    await far.offer(far.link)
    guessed = evolve(order(world, far), url=f"https://{OTHER}/userdata/{uuid.uuid4()}/tiny.raw")
    status = await daemon.download(guessed)
    assert status.error is not None
    assert status.error.code == "http_status"
    untrusted = await daemon.download(order(world, far, source_ca_pem=world.ca_pem))
    assert untrusted.error is not None
    assert untrusted.error.code == "tls_failed"


@pytest_twisted.ensureDeferred
async def test_a_file_that_was_damaged_there_is_not_published(
    world: World, daemon: Daemon, far: FarSsvm
) -> None:
    await far.offer(far.link)
    with (far.store / "template/tmpl/7/304/image.raw").open("r+b") as image:
        image.write(b"damaged")
    status = await daemon.download(order(world, far))
    assert status.error is not None
    assert status.error.code == "checksum_mismatch"
    assert world.job_directories() == []


@pytest_twisted.ensureDeferred
async def test_a_restart_of_the_source_in_the_middle_loses_nothing(
    world: World, daemon: Daemon, far: FarSsvm
) -> None:
    await far.offer(far.link)
    asked = order(world, far)
    ended, before = daemon.end_of(asked.job_id, 200), sent_bytes(world)
    with Slow(world, far):
        await daemon.call(storage.TEMPLATE_DOWNLOAD, asked, DownloadStatus)
        await until(lambda: received(daemon, asked.job_id) > STOP_AFTER_BYTES)
        far.kill()
        assert received(daemon, asked.job_id) < LARGE_BYTES
        far.start()
        await far.offer(far.link)
    check(world, far, await ended)
    assert sent_bytes(world) - before <= OVERHEAD * LARGE_BYTES + MOST_TWICE_BYTES


def waits(daemon: Daemon, job_id: str) -> bool:
    mine = [one for one in daemon.progress if one.job_id == job_id]
    return bool(mine) and mine[-1].waits_for_source


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("link", ["the same link", "another link"])
async def test_a_source_that_is_away_for_long_loses_nothing(
    world: World, daemon: Daemon, far: FarSsvm, link: str
) -> None:
    """Longer than all retries. Another link is that of an SSVM that was created anew."""
    await far.offer(far.link)
    asked = order(world, far)
    ended, before = daemon.end_of(asked.job_id, 200), sent_bytes(world)
    with Slow(world, far):
        await daemon.call(storage.TEMPLATE_DOWNLOAD, asked, DownloadStatus)
        await until(lambda: received(daemon, asked.job_id) > STOP_AFTER_BYTES)
        far.kill()
        await until(lambda: waits(daemon, asked.job_id))
        await until(lambda: world.mover_pids() == [])
        # behind the last checkpoint, everything is received again
        shown = received(daemon, asked.job_id)
        assert shown > STOP_AFTER_BYTES - MOST_TWICE_BYTES, "what it has is still shown"
        new = far.link if link == "the same link" else evolve(far.link, secret=str(uuid.uuid4()))
        far.start()
        await far.offer(new)
        again = evolve(asked, url=f"https://{OTHER}{new.path}")
        await daemon.call(storage.TEMPLATE_DOWNLOAD, again, DownloadStatus)
    check(world, far, await ended)
    assert sent_bytes(world) - before <= OVERHEAD * LARGE_BYTES + MOST_TWICE_BYTES


@pytest_twisted.ensureDeferred
async def test_a_copy_that_waits_for_its_source_can_be_aborted(
    world: World, daemon: Daemon, far: FarSsvm
) -> None:
    await far.offer(far.link)
    far.kill()
    asked = order(world, far)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, asked, DownloadStatus)
    await until(lambda: waits(daemon, asked.job_id))
    await daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(asked.job_id), Acknowledgement)
    assert world.job_directories() == []


@pytest_twisted.ensureDeferred
async def test_a_withdrawn_link_leads_nowhere(world: World, daemon: Daemon, far: FarSsvm) -> None:
    await far.offer(far.link)
    check(world, far, await daemon.download(order(world, far)))
    call = Call(Caller("management", "management"), "r", None)
    await far._serving.put_links(call, ExtractLinks([evolve(far.link, expires_unix_s=0.0)]))
    status = await daemon.download(order(world, far))
    assert status.error is not None
    assert status.error.code == "http_status"


@pytest_twisted.ensureDeferred
async def test_a_new_destination_continues_by_a_new_link(world: World, daemon: Daemon, far: FarSsvm) -> None:
    """The destination's VM has lost its power, the source's link has expired meanwhile."""
    await far.offer(far.link)
    asked, before = order(world, far), sent_bytes(world)
    with Slow(world, far):
        await daemon.call(storage.TEMPLATE_DOWNLOAD, asked, DownloadStatus)
        await until(lambda: received(daemon, asked.job_id) > STOP_AFTER_BYTES)
        await daemon.close()
        kill_all(world.fetch_pids())
    await until(lambda: world.mover_pids() == [])
    renewed = evolve(far.link, secret=str(uuid.uuid4()))
    await far.offer(renewed)
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        other = await Daemon(Path(directory), world).start()
        try:
            await other.call(storage.STORAGE_SETUP, STORE, StoreStats)
            assert world.job_directories() == [f".systemvm-jobs/s-1-VM/{asked.job_id}"]
            again = evolve(asked, url=f"https://{OTHER}{renewed.path}")
            check(world, far, await other.download(again))
        finally:
            await other.close()
    assert sent_bytes(world) - before <= OVERHEAD * LARGE_BYTES + MOST_TWICE_BYTES
