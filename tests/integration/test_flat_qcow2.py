# SPDX-License-Identifier: Apache-2.0
"""A chain of snapshots as one standalone image: qemu-img finds no fault in it, and the same disk."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from itertools import count
from pathlib import Path

import pytest

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.by_format import for_format
from systemvm.ssvm.formats.flat_qcow2 import FlatQcow2
from systemvm.ssvm.mover_messages import IMAGE_NAME
from systemvm.ssvm.store.copy_image import copy_chain
from systemvm.ssvm.store.descriptors import opened
from systemvm.ssvm.store_messages import CopyProgress
from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

MIB = 1 << 20
SIZE_BYTES = 600 * MIB + 512  # two L2 tables, and a last cluster that is not whole


def run(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def make_chain(directory: Path, files: int, options: str) -> list[Path]:
    """Write snapshots as the daemon does: each names the one before it by a name that is not its path."""
    chain: list[Path] = []
    chance = random.Random(20260712)
    for number in range(files):
        path = directory / f"snapshot-{number}"
        backing: list[str | Path] = ["-b", chain[-1], "-F", "qcow2"] if chain else []
        run("qemu-img", "create", "-q", "-f", "qcow2", *backing, "-o", options, path, str(SIZE_BYTES))
        writes = []
        for _ in range(12):
            offset = 512 * chance.randrange((SIZE_BYTES - MIB) // 512)
            pattern, length = chance.randrange(1, 256), 512 * chance.randrange(1, 2000)
            writes += ["-c", f"write -P {pattern} {offset} {length}"]
        writes += ["-c", f"write -P {number + 1} {SIZE_BYTES - 512} 512"]
        writes += ["-c", f"write -z {number * MIB} 300k"]
        run("qemu-io", "-f", "qcow2", *writes, path)
        chain.append(path)
    return chain


def flatten(chain: list[Path], target: Path, piece_bytes: int) -> int:
    files = [os.open(path, os.O_RDONLY) for path in chain]
    try:
        flat = FlatQcow2(files)
        with target.open("wb") as written:
            for offset in range(0, flat.size_bytes, piece_bytes):
                written.write(flat.read(offset, piece_bytes))
        return flat.virtual_size_bytes
    finally:
        for file in files:
            os.close(file)


@pytest.mark.parametrize(
    ("files", "options"),
    [(1, "compat=1.1"), (1, "compat=0.10"), (5, "cluster_size=64k"), (3, "cluster_size=4k")],
)
def test_a_chain_is_one_image_with_the_same_disk(tmp_path: Path, files: int, options: str) -> None:
    chain = make_chain(tmp_path, files, options)
    flat = tmp_path / "flat"
    assert flatten(chain, flat, 100_003) == SIZE_BYTES
    run("qemu-img", "check", "-f", "qcow2", flat)
    run("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", flat, chain[-1])
    inspector = for_format(ImageFormat.QCOW2, 1 << 40)
    inspector.feed(flat.read_bytes())
    assert inspector.finish() == SIZE_BYTES, "it depends on no other file"


def test_the_helper_copies_a_chain_and_continues_what_was_cut_off(tmp_path: Path) -> None:
    directory, job = tmp_path / "snapshots/2/7", tmp_path / "job"
    directory.mkdir(parents=True)
    job.mkdir()
    files = make_chain(directory, 3, "cluster_size=64k")
    chain = StoredChain(2, 7, [path.name for path in files])
    reported: list[CopyProgress] = []
    ticks = count()

    def monotonic_s() -> float:
        return float(next(ticks))

    def cut_off(progress: CopyProgress) -> None:
        if progress.copied_bytes:
            raise InterruptedError

    with opened(os.open(tmp_path, os.O_RDONLY)) as mount, opened(os.open(job, os.O_RDONLY)) as target:
        with pytest.raises(InterruptedError):
            copy_chain(mount, chain, target, cut_off, monotonic_s)
        copied = copy_chain(mount, chain, target, reported.append)
        flatten(files, tmp_path / "flat", MIB)
        image = (job / IMAGE_NAME).read_bytes()
        assert image == (tmp_path / "flat").read_bytes() and copied.size_bytes == len(image)
        assert copied.checksum == f"{{SHA-256}}{hashlib.sha256(image).hexdigest()}"
        assert reported[-1] == CopyProgress(len(image), len(image))
        files[0].rename(directory / "elsewhere")
        with pytest.raises(TransferError) as refused:
            copy_chain(mount, chain, target, reported.append)
        assert refused.value.code is TransferFailure.SOURCE_MISSING
        files[0].symlink_to(directory / "elsewhere")
        with pytest.raises((TransferError, OSError)):
            copy_chain(mount, chain, target, reported.append)


def test_an_empty_disk_is_an_image(tmp_path: Path) -> None:
    path, flat = tmp_path / "empty", tmp_path / "flat"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "1G")
    assert flatten([path], flat, MIB) == 1 << 30
    run("qemu-img", "check", "-f", "qcow2", flat)
    run("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", flat, path)


def test_compressed_clusters_are_refused(tmp_path: Path) -> None:
    raw, path = tmp_path / "raw", tmp_path / "compressed"
    raw.write_bytes(b"systemvm" * MIB)
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, path)
    with pytest.raises(TransferError) as refused:
        flatten([path], tmp_path / "flat", MIB)
    assert refused.value.code is TransferFailure.FORMAT_DAMAGED
