# SPDX-License-Identifier: Apache-2.0
"""The image inspectors accept no file that QEMU refuses or detects as another format."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.ssvm_lab import disk_images
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.by_format import for_format
from systemvm.ssvm.limits import TIB
from systemvm.wire.storage import ImageFormat

pytestmark = pytest.mark.timeout(300)
#: Boundary values of header fields.
EDGES = [0, 1, 2, 3, 4, 6, 7, 8, 9, 21, 22, 63, 64, 103, 104, 105, 112, 511, 512, 65535, 65536, 1 << 31]


def passes(image_format: ImageFormat, data: bytes) -> bool:
    inspector = for_format(image_format, 16 * TIB)
    try:
        inspector.feed(data)
        inspector.finish()
    except TransferError:
        return False
    return True


def qemu_refuses(path: Path) -> str:
    """Return QEMU's reason for not opening a QCOW2 image; empty when it opens, even if it needs repair."""
    for command in ("info", "check"):  # the second opens it as a machine does: data file, bitmaps, snapshots
        done = subprocess.run(
            ["qemu-img", command, "-f", "qcow2", path],
            capture_output=True,
            text=True, errors="replace",
            timeout=180,
            check=False,
        )  # fmt: skip
        if done.returncode == 1 or done.returncode < 0:
            return f"qemu-img {command}: {done.stderr}"
    return ""


def seeds(directory: Path) -> Iterator[bytes]:
    options = [(), ("-o", "compat=0.10"), ("-o", "cluster_size=512"), ("-o", "compression_type=zstd"),
               ("-o", "extended_l2=on"), ("-o", "refcount_bits=64")]  # fmt: skip
    for number, option in enumerate(options):
        yield disk_images.real_qcow2(directory / f"seed{number}", *option, size="1M")
    snapshot = directory / "snapshot"
    disk_images.real_qcow2(snapshot, size="1M")
    subprocess.run(["qemu-img", "snapshot", "-c", "first", snapshot], check=True, timeout=120)
    yield snapshot.read_bytes()


def mutations(data: bytes, number: int, count: int) -> Iterator[bytes]:
    """Yield the seed with one header field set to a boundary or random value."""
    chosen = random.Random(number)
    for _ in range(count):
        width = chosen.choice([1, 4, 8])
        offset = chosen.randrange(4, 152) // width * width
        value = chosen.choice([*EDGES, chosen.getrandbits(8 * width)]) % (1 << 8 * width)
        yield data[:offset] + value.to_bytes(width, "big") + data[offset + width :]


def test_no_qcow2_passes_that_qemu_refuses(tmp_path: Path) -> None:
    """Mutate headers of real images, with fixed random seeds so that each run checks the same files."""
    path = tmp_path / "image.qcow2"
    passed = refused = 0
    for number, seed in enumerate(seeds(tmp_path)):
        assert passes(ImageFormat.QCOW2, seed)
        for data in mutations(seed, number, 120):
            if not passes(ImageFormat.QCOW2, data):
                refused += 1
                continue
            passed += 1
            path.write_bytes(data)
            assert qemu_refuses(path) == "", data[:160].hex(" ", 8)
    assert passed > 50, "the mutations leave nothing to compare"
    assert refused > 50


LINES = st.sampled_from(
    [b"# comment", b"#", b"  ", b"", b"# Disk DescriptorFile", b"version=1", b"version=2", b"version=3",
     b"version=4", b"version=1 ", b"text", b"\t", b"#\rversion=1", b" version=1", b"VERSION=1"]
)  # fmt: skip
TEXTS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=6).map(
    lambda lines: b"".join(line + end for line, end in lines)
)
MARKS = st.sampled_from(
    [b"QFI\xfb\0\0\0\1", b"QFI\xfb\0\0\0\3", b"QED\0", b"KDMV", b"COWD", b"vhdxfile", b"conectix",
     b"LUKS\xba\xbe\0\1", b"WithoutFreeSpace\2\0\0\0", b"WithouFreSpacExt\2\0\0\0",
     bytes(64) + b"\x7f\x10\xda\xbe",
     b"Bochs Virtual HD Image".ljust(32, b"\0") + b"Redolog".ljust(16, b"\0") + b"Growing".ljust(16, b"\0")
     + b"\0\0\2\0",
     b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"]
)  # fmt: skip


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(st.one_of(TEXTS, MARKS, st.tuples(MARKS, TEXTS).map(b"".join), st.binary(max_size=80)))
def test_no_raw_disk_passes_that_qemu_takes_for_another_format(tmp_path: Path, head: bytes) -> None:
    data = head.ljust(1024, b"\0")
    if passes(ImageFormat.RAW, data):
        path = tmp_path / "disk"
        path.write_bytes(data)
        done = subprocess.run(
            ["qemu-img", "info", "--output=json", path], capture_output=True, timeout=120, check=True
        )
        assert json.loads(done.stdout)["format"] == "raw", head
