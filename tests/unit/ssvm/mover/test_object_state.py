# SPDX-License-Identifier: Apache-2.0
"""An inspector that is saved in the middle of an image judges the rest as if it had seen all of it."""

from __future__ import annotations

import io
import itertools
import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.ssvm_lab import disk_images
from integration.ssvm_lab.disk_images import qcow2
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.gate import Admission
from systemvm.ssvm.limits import TIB
from systemvm.ssvm.mover import object_state
from systemvm.ssvm.mover.object_state import UnsavableError
from systemvm.ssvm.mover.pipeline import INSPECTORS
from systemvm.wire.storage import ImageFormat

IMAGES = [
    (ImageFormat.RAW, disk_images.raw()[: 1 << 20]),
    (ImageFormat.RAW, disk_images.raw()[: (1 << 20) - 7]),
    (ImageFormat.RAW, bytes(1 << 18) + b"conectix".ljust(512, b"\0")),
    (ImageFormat.ISO, disk_images.iso()),
    (ImageFormat.QCOW2, qcow2()),
    (ImageFormat.QCOW2, qcow2(snapshots=1, snapshots_offset=3 << 16)),
    (ImageFormat.QCOW2, qcow2(snapshots=3, snapshots_offset=3 << 16)),
    (ImageFormat.QCOW2, qcow2(backing="/etc/passwd")),
]

FIRST_CLUSTER_BYTES = 1 << 16
NOTHING = {"kind": "object", "value": {"kind": "dict", "value": []}}


def saved_and_loaded(admission: Admission) -> Admission:
    try:
        saved = object_state.save(admission, INSPECTORS)
    except UnsavableError:  # within the first cluster, on whose behalf no journal is ever written
        assert admission.stream is not None
        assert admission.stream.position < FIRST_CLUSTER_BYTES
        return admission
    loaded = object_state.load(json.loads(json.dumps(saved)), INSPECTORS)
    assert isinstance(loaded, Admission)
    return loaded


def verdict(image_format: ImageFormat, pieces: list[bytes], *, is_saved: bool) -> tuple[object, str]:
    admission = Admission(image_format, 16 * TIB)
    try:
        for piece in pieces:
            admission.feed(piece)
            if is_saved:
                admission = saved_and_loaded(admission)
        return admission.verdict(), ""
    except TransferError as error:
        return error.code, error.message


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(IMAGES) - 1), st.lists(st.integers(0, 1 << 20), max_size=4))
def test_a_saved_inspector_has_the_same_verdict(number: int, cuts: list[int]) -> None:
    image_format, data = IMAGES[number]
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    whole = verdict(image_format, pieces, is_saved=False)
    assert verdict(image_format, pieces, is_saved=True) == whole


@pytest.mark.parametrize("image_format", list(ImageFormat))
@pytest.mark.parametrize("data", [b"", bytes(100_000), b"vhdxfile".ljust(1 << 18, b"\0")])
def test_the_inspector_of_every_format_can_be_saved(image_format: ImageFormat, data: bytes) -> None:
    pieces = [data[: 1 << 12], data[1 << 12 :]]
    whole = verdict(image_format, pieces, is_saved=False)
    assert verdict(image_format, pieces, is_saved=True) == whole


def test_references_of_objects_to_each_other_are_kept() -> None:
    loaded: Any = saved_and_loaded(Admission(ImageFormat.QCOW2, 16 * TIB))
    assert loaded.stream is loaded._inspector.stream
    [first, *_] = loaded.stream._ranges
    assert first.then.__self__ is loaded._inspector


def test_what_is_not_plain_data_of_a_known_class_cannot_be_saved() -> None:
    for value in (io.BytesIO(), iter([1]), object(), lambda: None, os.system, [io.BytesIO()]):
        with pytest.raises(UnsavableError):
            object_state.save(value, INSPECTORS)


@pytest.mark.parametrize(
    "data",
    [
        NOTHING | {"class": "os:system"},
        NOTHING | {"class": "os:system", "kind": "function"},
        NOTHING | {"class": "systemvm.ssvm.formats.gate:os.system", "kind": "function"},
        NOTHING | {"class": "subprocess:Popen"},
        NOTHING | {"class": "systemvm.ssvm.formats.raw:signatures"},
        NOTHING | {"class": "systemvm.ssvm.formats.nothing:X"},
        {"kind": "bytes"},
        {"kind": "else", "value": []},
        {"kind": "known", "value": 3},
        {"kind": "method", "object": "text", "value": "upper"},
        {},
    ],
)
def test_another_class_or_damaged_data_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="saved object"):
        object_state.load(data, INSPECTORS)
