# SPDX-License-Identifier: Apache-2.0
"""The gate beside qemu-img, oslo.utils and dissect.hypervisor: good images, bad ones, and mutations."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from image_corpus.case import Case
from image_corpus.cases import BAD, GOOD
from image_corpus.resum import resummed_vhd, resummed_vhdx
from systemvm.management.primary import archive
from systemvm.management.primary.qemu_img import DiskSource, SourceFormat
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.gate import Admission
from systemvm.ssvm.limits import TIB
from systemvm.wire.storage import ImageFormat

pytestmark = pytest.mark.timeout(300)
TREE = Path(__file__).parents[2]
ORACLES = TREE / "build/oracles/bin/python"
SOURCES: dict[ImageFormat, SourceFormat] = {
    ImageFormat.QCOW2: "qcow2", ImageFormat.VHD: "vpc", ImageFormat.VHDX: "vhdx", ImageFormat.VMDK: "vmdk",
}  # fmt: skip
COMPARED = [each for each in GOOD.values() if each.format not in (ImageFormat.OVA, ImageFormat.TAR)]
EDGES = [0, 1, 2, 3, 7, 8, 127, 128, 255, 511, 512, 1 << 16, 1 << 20, 1 << 31, (1 << 32) - 1, (1 << 64) - 1]


def qemu(source: DiskSource) -> int | str:
    """The virtual size that qemu-img reads, or why it does not."""
    done = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", "--image-opts", source.image_options],
        capture_output=True, text=True, errors="replace", timeout=240, check=False,
    )  # fmt: skip
    return int(json.loads(done.stdout)["virtual-size"]) if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("name", [each.name for each in GOOD.values() if each.format in SOURCES])
def test_qemu_reads_every_good_image_with_the_same_size(name: str, tmp_path: Path) -> None:
    case = GOOD[name]
    path = tmp_path / "image"
    path.write_bytes(case.make())
    assert qemu(DiskSource(path, SOURCES[case.format])) == case.virtual_size_bytes


@pytest.mark.parametrize("name", [each.name for each in GOOD.values() if each.format is ImageFormat.OVA])
def test_qemu_reads_the_disk_of_every_good_ova_in_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image.ova"
    path.write_bytes(GOOD[name].make())
    assert qemu(archive.find_disk(path)) == GOOD[name].virtual_size_bytes


def differences_known() -> dict[str, set[str]]:
    """The good images that an oracle refuses or measures wrongly: none of them is the gate's fault."""
    oslo = {
        each.name for each in COMPARED if each.format is ImageFormat.VHD and each.name.startswith("fixed")
    }
    oslo |= {
        "extended L2",  # feature bit 4 is unknown to it
        "raw",  # the size is what it has read so far
        "raw with a boot sector", "ISO that boots as a disk",  # a partition table is a format of its own
        "iso", "ISO without its padding",  # the size is the volume's
        "UDF",
    }  # fmt: skip
    dissect = {
        "zstd clusters",  # an option of it that is not installed
        "VHDX with an unknown optional item",
        "VMDK with a parent's number in capitals",
    }
    return {"oslo": oslo, "dissect": dissect}


needs_oracles = pytest.mark.skipif(not ORACLES.exists(), reason="needs `make build/oracles/stamp`")


@pytest.fixture(scope="module")
def oracles() -> Iterator[Callable[[Path, ImageFormat], dict[str, dict[str, int | str]]]]:
    with subprocess.Popen(
        [ORACLES, TREE / "tests/integration/foreign_inspectors.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip

        def ask(path: Path, image_format: ImageFormat) -> dict[str, dict[str, int | str]]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{path} {image_format.value}\n")
            process.stdin.flush()
            answer: dict[str, dict[str, int | str]] = json.loads(process.stdout.readline())
            return answer

        yield ask


@needs_oracles
def test_other_inspectors_measure_good_images_the_same(
    oracles: Callable[[Path, ImageFormat], dict[str, dict[str, int | str]]], tmp_path: Path
) -> None:
    path = tmp_path / "image"
    differ: dict[str, set[str]] = {"oslo": set(), "dissect": set()}
    for case in COMPARED:
        path.write_bytes(case.make())
        for oracle, answer in oracles(path, case.format).items():
            if answer.get("size") != case.virtual_size_bytes:
                differ[oracle].add(case.name)
    assert differ == differences_known()


@needs_oracles
def test_every_image_that_oslo_calls_unsafe_is_refused(
    oracles: Callable[[Path, ImageFormat], dict[str, dict[str, int | str]]], tmp_path: Path
) -> None:
    """Of all that it refuses, the gate accepts only the good images above."""
    path = tmp_path / "image"
    refused = set()
    for case in [*COMPARED, *BAD.values()]:
        if case.format in (ImageFormat.OVA, ImageFormat.TAR):
            continue
        path.write_bytes(case.make())
        if "error" in oracles(path, case.format)["oslo"]:
            refused.add(case.name)
    assert len(refused) > 100
    assert {name for name in refused if name in GOOD} <= differences_known()["oslo"]


def made_by_qemu(directory: Path) -> Iterator[Case]:
    """Images of 4 MiB as qemu-img writes them."""
    raw = directory / "disk.raw"
    raw.write_bytes(random.Random(1).randbytes(1 << 20) + bytes(3 << 20))
    for image_format, options in (
        (ImageFormat.VHD, "subformat=dynamic,force_size=on"),
        (ImageFormat.VHD, "subformat=fixed,force_size=on"),
        (ImageFormat.VHDX, "subformat=dynamic,block_size=1M"),
        (ImageFormat.VHDX, "subformat=fixed,block_size=1M"),
        (ImageFormat.VMDK, "subformat=monolithicSparse"), (ImageFormat.VMDK, "subformat=streamOptimized"),
    ):  # fmt: skip
        path = directory / "seed"
        path.unlink(missing_ok=True)
        command = ["qemu-img", "convert", "-f", "raw", "-O", SOURCES[image_format], "-o", options]
        subprocess.run([*command, raw, path], check=True, timeout=60)
        yield Case(options, image_format, partial(bytes, path.read_bytes()), 4 << 20)


def places(image_format: ImageFormat, data: bytes, chosen: random.Random) -> int:
    """A place in one of the structures of a format."""
    mib = 1 << 20
    starts = {
        ImageFormat.VHD: [(0, 1600), (len(data) - 512, 512)],
        ImageFormat.VHDX: [(64 << 10, 100), (128 << 10, 100), (192 << 10, 100), (2 * mib, 250),
                           (2 * mib + (64 << 10), 60), (3 * mib, 64), (mib, 64)],
        ImageFormat.VMDK: [(0, 80), (512, 400), (21 * 512, 64), (26 * 512, 64), (len(data) - 1536, 1536)],
    }[image_format]  # fmt: skip
    start, length = chosen.choice(starts)
    return max(0, start) + chosen.randrange(length)


def mutations(case: Case, number: int, count: int) -> Iterator[bytes]:
    chosen = random.Random(number)
    seed = case.make()
    order = "little" if case.format is not ImageFormat.VHD else "big"
    for _ in range(count):
        data = bytearray(seed)
        width = chosen.choice([1, 2, 4, 8])
        offset = places(case.format, seed, chosen) // width * width
        value = chosen.choice([*EDGES, chosen.getrandbits(8 * width)]) % (1 << 8 * width)
        data[offset : offset + width] = value.to_bytes(width, order)[: len(data) - offset]  # type: ignore[arg-type]
        if case.format is ImageFormat.VHD and chosen.random() < 0.9:
            yield resummed_vhd(bytes(data))
        elif case.format is ImageFormat.VHDX and chosen.random() < 0.9:
            yield resummed_vhdx(bytes(data))
        else:
            yield bytes(data)


def test_no_other_format_passes_that_qemu_refuses(tmp_path: Path) -> None:
    """Mutated structures of real images; one seed a version, so that each run looks at the same files."""
    path = tmp_path / "image"
    passed = refused = 0
    for number, case in enumerate(made_by_qemu(tmp_path)):
        for data in [case.make(), *mutations(case, number, 100)]:
            admission = Admission(case.format, 16 * TIB)
            try:
                admission.feed(data)
                size_bytes = admission.verdict().virtual_size_bytes
            except TransferError:
                refused += 1
                continue
            passed += 1
            path.write_bytes(data)
            source = DiskSource(path, SOURCES[case.format])
            assert qemu(source) == size_bytes, (case.name, data[:100].hex(" ", 8), data[-600:].hex(" ", 8))
    assert passed > 100, "the mutations leave nothing to compare"
    assert refused > 100
