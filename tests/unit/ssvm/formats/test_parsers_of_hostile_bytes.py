# SPDX-License-Identifier: Apache-2.0
"""Every parser of the gate on images with changed and missing bytes: a verdict or a code, and no more."""

from __future__ import annotations

import resource
import struct
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_corpus import archives, vhd, vhdx, vmdk
from image_corpus.cases import GOOD
from image_corpus.resum import resummed_vhd, resummed_vhdx
from integration.ssvm_lab import disk_images
from systemvm.service import tar_header
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats import ovf, vhdx_tables, vmdk_descriptor
from systemvm.ssvm.formats.gate import Admission, Verdict
from systemvm.ssvm.limits import TIB
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

MIB = 1 << 20
#: They are quick, and hostile bytes are many.
MANY = 3 * settings().max_examples
SEEDS: dict[ImageFormat, list[bytes]] = {
    ImageFormat.QCOW2: [disk_images.qcow2(), disk_images.qcow2(version=2)],
    ImageFormat.RAW: [disk_images.raw(MIB)],
    ImageFormat.ISO: [disk_images.iso()],
    ImageFormat.VHD: [vhd.fixed(MIB), vhd.dynamic(4 * MIB, 512 * 1024)],
    ImageFormat.VHDX: [vhdx.image(used=(0,)), vhdx.image(used=(0,), swapped=True)],
    ImageFormat.VMDK: [vmdk.sparse(), vmdk.stream()],
    ImageFormat.OVA: [archives.archive([("a.ovf", archives.descriptor()), ("disk.vmdk", vmdk.stream())])],
    ImageFormat.TAR: [archives.archive([("a", b"x" * 1000), ("b", b"y")])],
}
FORMATS = st.sampled_from(list(ImageFormat))
#: Where the structures of the formats are; most other bytes are data, or zeros.
PLACES = st.one_of(
    st.integers(0, 1600),
    st.sampled_from([64 << 10, 128 << 10, 192 << 10, MIB, 2 * MIB, 2 * MIB + (64 << 10), 3 * MIB]).flatmap(
        lambda start: st.integers(start, start + 200)
    ),
    st.integers(-2048, -1),
)
EDGES = [0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
VALUES = st.one_of(
    st.binary(min_size=1, max_size=16),
    st.sampled_from(EDGES).map(partial(struct.pack, "<Q")),
    st.sampled_from(EDGES).map(partial(struct.pack, ">Q")),
)
CHANGES = st.lists(st.tuples(PLACES, VALUES), min_size=1, max_size=4)


def outcome(image_format: ImageFormat, data: bytes, piece_bytes: int) -> Verdict | TransferFailure:
    admission = Admission(image_format, 16 * TIB)
    view = memoryview(data)
    try:
        for start in range(0, len(data), piece_bytes):
            admission.feed(view[start : start + piece_bytes])
        return admission.verdict()
    except TransferError as error:
        assert error.message.isprintable()
        return error.code


def changed(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    buffer = bytearray(data)
    for place, value in changes:
        start = place % len(buffer)
        buffer[start : start + len(value)] = value[: len(buffer) - start]
    return bytes(buffer)


@settings(max_examples=MANY, deadline=None)
@given(FORMATS, st.data())
def test_changed_images_have_the_same_outcome_in_any_pieces(
    image_format: ImageFormat, data: st.DataObject
) -> None:
    seed = data.draw(st.sampled_from(SEEDS[image_format]))
    image = changed(seed, data.draw(CHANGES))
    if image_format is ImageFormat.VHD and data.draw(st.booleans()):
        image = resummed_vhd(image)
    elif image_format is ImageFormat.VHDX and data.draw(st.booleans()):
        image = resummed_vhdx(image)
    image = image[: len(image) - data.draw(st.sampled_from([0, 0, 1, 511, 512, 1024, 1536, 65536]))]
    piece_bytes = data.draw(st.sampled_from([509, 4096, 70_001]))
    assert outcome(image_format, image, piece_bytes) == outcome(image_format, image, max(1, len(image)))


@settings(max_examples=MANY, deadline=None)
@given(FORMATS, st.binary(max_size=3000), st.integers(1, 300))
def test_any_bytes_have_the_same_outcome_in_any_pieces(
    image_format: ImageFormat, data: bytes, piece_bytes: int
) -> None:
    assert outcome(image_format, data, piece_bytes) == outcome(image_format, data, MIB)


@settings(max_examples=MANY, deadline=None)
@given(st.one_of(
    st.binary(max_size=400),
    st.tuples(st.integers(0, 700), VALUES).map(lambda change: changed(archives.descriptor(), [change])),
    st.text(max_size=300).map(lambda text: archives.descriptor(disk_more=text)),
))  # fmt: skip
def test_any_ovf_is_a_disk_or_a_refusal(data: bytes) -> None:
    typed(lambda: ovf.read_descriptor(data))


@settings(max_examples=MANY, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.text(max_size=200).map(str.encode)))
def test_any_manifest_is_read_or_refused(data: bytes) -> None:
    typed(lambda: ovf.read_manifest(data))


@settings(max_examples=MANY, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=400),
        st.tuples(st.integers(0, 300), VALUES).map(lambda change: changed(vmdk.descriptor(), [change])),
        st.text(st.characters(max_codepoint=255), max_size=200).map(lambda text: vmdk.descriptor(more=text)),
    )
)
def test_any_vmdk_descriptor_is_accepted_or_refused(data: bytes) -> None:
    typed(lambda: vmdk_descriptor.check(data, vmdk.CAPACITY))


@settings(max_examples=MANY, deadline=None)
@given(
    st.binary(min_size=512, max_size=512),
    st.dictionaries(st.sampled_from(["path", "size"]), st.just("7")),
    st.sampled_from(["x", "g", "L", "K"]),
    st.binary(max_size=200),
)
def test_any_tar_header_is_parsed_or_a_value_error(
    block: bytes, extension: dict[str, str], kind: str, data: bytes
) -> None:
    for parse in (
        lambda: tar_header.parse(block, extension),
        lambda: tar_header.extend(dict(extension), kind, data),
    ):
        try:
            parse()
        except ValueError:
            continue


@pytest.mark.parametrize("name", GOOD)
def test_an_inspection_needs_little_memory_and_time(name: str) -> None:
    """At most 2.5 MiB besides the image itself, and less than a second of CPU; most need milliseconds."""
    case = GOOD[name]
    image = case.make()
    tracemalloc.start()
    try:
        used_s = time.process_time()
        outcome(case.format, image, 256 * 1024)
        used_s = time.process_time() - used_s
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2.5 * MIB
    assert used_s < 1


def test_a_table_of_16_tib_is_read_in_parts() -> None:
    """The block table of a VHDX of 16 TiB with blocks of 1 MiB has 128 MiB: none of it is kept."""
    entries = 16 * TIB // MIB
    table_bytes = 128 * MIB + MIB
    regions = vhdx.regions([(vhdx_tables.BAT, 3 * MIB, table_bytes, 1),
                            (vhdx_tables.METADATA, 2 * MIB, MIB, 1)])  # fmt: skip
    head = vhdx.image(disk_bytes=16 * TIB, region_table=regions, used=(), entries={0: 0})[: 3 * MIB]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    admission = Admission(ImageFormat.VHDX, 16 * TIB)
    admission.feed(head)
    zeros = bytes(MIB)
    for _ in range(table_bytes // MIB):
        admission.feed(zeros)
    assert admission.verdict().virtual_size_bytes == 16 * TIB == entries * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def typed(parse: Callable[[], object]) -> None:
    try:
        parse()
    except TransferError as error:
        assert error.message.isprintable()
