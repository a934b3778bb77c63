# SPDX-License-Identifier: Apache-2.0
"""Checksum files, Metalinks and their mirrors, and images in a registry, by the real processes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import uuid
from pathlib import Path
from typing import Any

import pysequoia
import pytest
import pytest_twisted

from integration.ssvm_lab.bad_server import BODY
from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import BAD, GOOD, daemon, world
from integration.ssvm_lab.world import NAME, World
from systemvm.wire.source_access import SourceAccess
from systemvm.wire.storage import DownloadState, DownloadStatus

__all__ = ["daemon", "world"]  # fixtures
pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
SHA256 = hashlib.sha256(BODY).hexdigest()
V4 = "urn:ietf:params:xml:ns:metalink"


def content(world: World, status: DownloadStatus) -> bytes:
    assert status.state is DownloadState.DOWNLOADED, status.error
    assert status.install_path is not None
    return (world.store / status.install_path).read_bytes()


def code_of(status: DownloadStatus) -> str:
    assert status.error is not None, status
    return status.error.code


def publish(world: World, name: str, data: bytes | str) -> str:
    """Have nginx serve a file; return its URL."""
    path = world.files / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return f"{GOOD}/{name}"


@pytest_twisted.ensureDeferred
async def test_an_image_has_the_checksum_of_the_file_beside_it(world: World, daemon: Daemon) -> None:
    image = publish(world, "sums/image.raw", BODY)
    sums = publish(world, "sums/SHA256SUMS", f"{'0' * 64}  other.raw\n{SHA256} *image.raw\n")
    status = await daemon.download(request(world, image, checksum=sums))
    assert (content(world, status), status.checksum) == (BODY, f"{{SHA-256}}{SHA256}")
    wrong = publish(world, "sums/WRONG", f"SHA256 (image.raw) = {'0' * 64}\n")
    assert code_of(await daemon.download(request(world, image, checksum=wrong))) == "checksum_mismatch"
    missing = await daemon.download(request(world, image, checksum=f"{GOOD}/sums/none"))
    assert code_of(missing) == "http_status"


@pytest.mark.parametrize("how", ["trusted", "stranger", "forged", "no key"])
@pytest_twisted.ensureDeferred
async def test_a_signed_checksum_file_counts_only_with_its_signature(
    world: World, daemon: Daemon, how: str
) -> None:
    publisher, stranger = (pysequoia.Tsk.generate(f"{name}@example.test") for name in "ab")
    text = f"{SHA256}  image.raw\n".encode()
    signature = pysequoia.sign(publisher.signer(), text, mode=pysequoia.SignatureMode.DETACHED)
    image = publish(world, "signed/image.raw", BODY)
    sums = publish(world, "signed/SHA256SUMS", text + b"\n" if how == "forged" else text)
    access = SourceAccess(
        signature_url=publish(world, "signed/SHA256SUMS.gpg", bytes(signature)),
        trusted_keys=None if how == "no key" else str(
            (stranger if how == "stranger" else publisher).extract_certificate()
        ),
    )  # fmt: skip
    status = await daemon.download(request(world, image, checksum=sums, access=access))
    if how == "trusted":
        assert content(world, status) == BODY
    else:
        assert code_of(status) == "signature_invalid"


def metalink(*mirrors: str, sha256: str = SHA256, size: int = len(BODY)) -> str:
    urls = "".join(
        f'<url priority="{number}">{url.replace("&", "&amp;")}</url>' for number, url in enumerate(mirrors, 1)
    )
    return (
        f'<metalink xmlns="{V4}"><file name="image.raw"><size>{size}</size>'
        f'<hash type="sha-256">{sha256}</hash>{urls}</file></metalink>'
    )


@pytest_twisted.ensureDeferred
async def test_a_damaged_piece_is_fetched_from_another_mirror(world: World, daemon: Daemon) -> None:
    """Each mirror is damaged at another place: only both together have the file."""
    piece_bytes, size = 1 << 20, 8 << 20
    data = os.urandom(size)
    first, second = bytearray(data), bytearray(data)
    first[3_500_000] ^= 1
    second[7_500_000] ^= 1
    publish(world, "pieces/first.raw", bytes(first))
    publish(world, "pieces/second.raw", bytes(second))
    digests = "".join(
        f"<hash>{hashlib.sha256(data[start : start + piece_bytes]).hexdigest()}</hash>"
        for start in range(0, size, piece_bytes)
    )
    mirrors = [f"http://{NAME}/counted/pieces/{name}.raw" for name in ("first", "second")]
    document = metalink(*mirrors, sha256=hashlib.sha256(data).hexdigest(), size=size)
    with_pieces = document.replace(
        "</file>", f'<pieces type="sha-256" length="{piece_bytes}">{digests}</pieces></file>'
    )
    status = await daemon.download(request(world, publish(world, "pieces/both.meta4", with_pieces)))
    assert content(world, status) == data
    repaired = [step.text for step in status.steps if "does not have its digest" in step.text]
    assert len(repaired) == 2, status.steps


@pytest.mark.parametrize(
    "failing",
    [
        [f"{BAD}/status?code=404"],
        [f"{BAD}/status?code=503", "http://nobody.example.test/x", f"http://{NAME}:9/x"],
        [f"{BAD}/says_less"],  # another size than the Metalink's
        [f"{BAD}/truncated"],
        [f"{BAD}/reset"],
        ["http://127.0.0.1/x", "http://management.example.test/x", "http://[::ffff:10.11.0.1]/x"],
        [f"{BAD}/redirect?to=http://169.254.0.1/x"],
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_mirror_that_fails_is_replaced_by_the_next(
    world: World, daemon: Daemon, failing: list[str]
) -> None:
    document = publish(world, "links/image.raw.meta4", metalink(*failing, f"{BAD}/good"))
    status = await daemon.download(request(world, document))
    assert (content(world, status), status.checksum) == (BODY, f"{{SHA-256}}{SHA256}")
    assert world.forbidden_connections() == []


@pytest_twisted.ensureDeferred
async def test_the_next_mirror_continues_at_the_same_byte(world: World, daemon: Daemon) -> None:
    """Entity tags of two servers differ, so the size and the checksum identify the rest."""
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    mirrors = [f"{BAD}/drops?id={first}", f"{BAD}/serves_ranges?id={second}"]
    document = publish(world, "links/continued.meta4", metalink(*mirrors))
    status = await daemon.download(request(world, document))
    assert content(world, status) == BODY
    asked = world.in_vm("curl", "-sS", "--max-time", "60", f"{BAD}/requests_of?id={second}")
    # the first one resets the connection, and the kernel drops what was not read until then
    assert 0 < int(asked) <= 300_000, "only what did not arrive from the first mirror"


@pytest.mark.parametrize("has_checksum", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_mirror_that_the_server_names_is_used_with_a_checksum_only(
    world: World, daemon: Daemon, has_checksum: bool
) -> None:
    url = f"{BAD}/names_mirror?to={BAD}/good"
    status = await daemon.download(request(world, url, checksum=SHA256 if has_checksum else None))
    if has_checksum:
        assert content(world, status) == BODY
    else:
        assert status.state is DownloadState.DOWNLOAD_ERROR


@pytest_twisted.ensureDeferred
async def test_a_mirror_with_other_bytes_is_not_believed(world: World, daemon: Daemon) -> None:
    other = publish(world, "links/other.raw", bytes(reversed(BODY)))
    document = publish(world, "links/other.meta4", metalink(other, f"{BAD}/good"))
    assert content(world, await daemon.download(request(world, document))) == BODY
    alone = publish(world, "links/alone.meta4", metalink(other))
    assert code_of(await daemon.download(request(world, alone))) == "checksum_mismatch"


@pytest_twisted.ensureDeferred
async def test_a_metalink_with_an_entity_is_refused(world: World, daemon: Daemon) -> None:
    document = publish(
        world,
        "links/entity.metalink",
        '<!DOCTYPE m [<!ENTITY x SYSTEM "http://10.11.0.1/">]>' + metalink(f"{BAD}/good"),
    )
    assert code_of(await daemon.download(request(world, document))) == "metalink_invalid"
    assert world.forbidden_connections() == []


def push(world: World, repository: str, layer: bytes, media_type: str) -> str:
    """Lay out an image as a registry serves it, with an index for two architectures; return its digest."""
    root = Path("v2") / repository

    def blob(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        publish(world, str(root / kind / digest), data)
        return {"digest": digest, "size": len(data), **more}

    layers = [blob("blobs", layer, mediaType=media_type), blob("blobs", b"{}", mediaType="text/plain")]
    manifest = blob("manifests", json.dumps({"layers": layers}).encode(), platform={"architecture": "amd64"})
    other = {"digest": f"sha256:{'0' * 64}", "size": 1, "platform": {"architecture": "arm64"}}
    publish(world, str(root / "manifests" / "1.0"), json.dumps({"manifests": [other, manifest]}))
    return str(layers[0]["digest"]).partition(":")[2]


@pytest.mark.parametrize("compress", [False, True])
@pytest_twisted.ensureDeferred
async def test_the_disk_of_a_container_disk_is_downloaded(
    world: World, daemon: Daemon, compress: bool
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("disk/vm.img")
        info.size = len(BODY)
        tar.addfile(info, io.BytesIO(BODY))
    layer = gzip.compress(out.getvalue(), 1) if compress else out.getvalue()
    media_type = f"application/vnd.oci.image.layer.v1.tar{'+gzip' if compress else ''}"
    digest = push(world, "kubevirt/vm", layer, media_type)
    status = await daemon.download(request(world, f"oci://{NAME}/kubevirt/vm:1.0"))
    assert (content(world, status), status.checksum) == (BODY, f"{{SHA-256}}{digest}")


@pytest_twisted.ensureDeferred
async def test_a_blob_of_its_own_is_downloaded(world: World, daemon: Daemon) -> None:
    push(world, "oras/vm", BODY, "application/vnd.example.disk.raw")
    status = await daemon.download(request(world, f"oci://{NAME}/oras/vm:1.0"))
    assert content(world, status) == BODY
    missing = await daemon.download(request(world, f"oci://{NAME}/oras/vm:1.0", arch="arm64"))
    assert code_of(missing) == "http_status"
