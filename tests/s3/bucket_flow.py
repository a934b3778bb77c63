# SPDX-License-Identifier: Apache-2.0
"""The SSVM's real processes beside a real S3 server: fixtures, orders, and what is in the bucket."""

from __future__ import annotations

import random
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.world import SERVER, STORE, Builder, World, run
from rpc_wait import until
from s3.swift import BUCKET, CREDENTIALS, PLAIN, PORT, Swift
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.s3 import listing, object_keys
from systemvm.wire import storage
from systemvm.wire.extract import EXTRACT_PRESIGN, PresignedLink, PresignRequest
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import (
    CopyRequest,
    DownloadRequest,
    DownloadStatus,
    ImageFormat,
    PublishedFile,
    Store,
    StoreStats,
)
from systemvm.wire.transfer_failure import TransferFailure

#: Swift's address for the SSVM, on a network of its own.
ENDPOINT, VM = "10.13.0.2", "10.13.0.1"
KEYLESS = S3Bucket(ENDPOINT, PORT, BUCKET, is_tls=False)
KEYED = Store.of_bucket(evolve(KEYLESS, access_key=CREDENTIALS.access_key, secret_key=CREDENTIALS.secret_key))
S3 = Store.of_bucket(KEYLESS)
#: Swift is slow where eight things run at a time, and nothing here tests a timeout.
PATIENT = {"retry_base_delay_s": 0.05, "retry_max_delay_s": 0.5}
LONG_S = 600.0
SIZE, SMALL_SIZE = 72 * MIB + 512, 20 * MIB + 512
IMAGE = random.Random(7).randbytes(SIZE)


@pytest.fixture(scope="module")
def world(swift: Swift) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm3") as directory:
        with Builder(Path(directory), store_size="256m", limits=PATIENT) as built:
            run(
                "ip", "-n", swift.namespace, "link", "add", "vm0", "type", "veth",
                "peer", "name", "s3", "netns", built.vm_namespace,
            )  # fmt: skip
            for name, device, address in (
                (swift.namespace, "vm0", ENDPOINT),
                (built.vm_namespace, "s3", VM),
            ):
                run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
                run("ip", "-n", name, "link", "set", device, "up")
            (built.files / "image.raw").write_bytes(IMAGE)
            (built.files / "small.raw").write_bytes(IMAGE[:SMALL_SIZE])
            yield built


@pytest_twisted.async_yield_fixture
async def daemon(world: World) -> Any:
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        started = await Daemon(Path(directory), world).start()
        await set_up(started)
        await started.call(storage.STORAGE_SETUP, STORE, StoreStats)
        yield started
        await started.close()


async def set_up(daemon: Daemon) -> None:
    """Send the keys, and again while fetch starts, as the daemon does."""
    while True:
        try:
            await daemon.call(storage.STORAGE_SETUP, KEYED, StoreStats)
        except RpcError as error:
            assert error.reason == TransferFailure.BUSY.value, error
            await deferLater(reactor, 0.2)
        else:
            return


def order(world: World, template_id: int, path: str = "small.raw", **more: Any) -> DownloadRequest:
    values: dict[str, Any] = {"store": S3, "template_id": template_id, "unique_name": f"{template_id}-2-test"}
    return request(world, f"http://{SERVER}/{path}", **(values | more))


def copy_order(status: DownloadStatus, template_id: int, source: Store, store: Store) -> CopyRequest:
    assert status.install_path is not None
    _, _, account, number, name = status.install_path.split("/")
    return CopyRequest(
        job_id=str(uuid.uuid4()), request_id="r-1", template_id=template_id, account_id=2,
        unique_name=f"{template_id}-2-test", description="copy", format=ImageFormat.RAW, source=source,
        source_file=PublishedFile(int(account), int(number), name), store=store,
        virtual_size_bytes=SMALL_SIZE,
        source_checksum=status.image_checksum or status.checksum, checksum=status.checksum,
    )  # fmt: skip


async def copied(daemon: Daemon, copy: CopyRequest) -> DownloadStatus:
    ended = daemon.end_of(copy.job_id, LONG_S)
    status: DownloadStatus = await daemon.call(storage.TEMPLATE_COPY, copy, DownloadStatus)
    return status if status.state.ended else await ended


def keys(swift: Swift, prefix: str) -> list[str]:
    return [each.key for each in listing.objects(swift.client(PLAIN), prefix)]


def leftovers(swift: Swift, images: str = object_keys.TEMPLATES) -> list[str]:
    """Return marks of jobs and unfinished uploads whose images have keys that begin with `images`."""
    uploads = [each.key for each in listing.uploads(swift.client(PLAIN), images)]
    return [*(key for key in keys(swift, object_keys.JOBS) if images in key), *uploads]


def content(swift: Swift, world: World, url: str, directory: Path) -> bytes:
    """Return what curl downloads by a link, in the network of the SSVM."""
    file = directory / "downloaded"
    world.in_vm("curl", "--silent", "--show-error", "--fail", "--output", str(file), url)
    return file.read_bytes()


async def link_to(daemon: Daemon, status: DownloadStatus, expires_s: int = 14400) -> str:
    assert status.install_path is not None
    _, _, account, number, name = status.install_path.split("/")
    file = PublishedFile(int(account), int(number), name)
    link: PresignedLink = await daemon.call(
        EXTRACT_PRESIGN, PresignRequest(S3, file, expires_s), PresignedLink
    )
    return link.url


async def received(daemon: Daemon, job_id: str, at_least: int) -> None:
    def has_received() -> bool:
        return any(each.job_id == job_id and each.received_bytes >= at_least for each in daemon.progress)

    await until(has_received, LONG_S)
