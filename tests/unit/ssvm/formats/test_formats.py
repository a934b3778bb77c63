# SPDX-License-Identifier: Apache-2.0
"""The gate and the corpus: good images are admitted with their size, bad ones refused with their code."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_corpus.cases import BAD, GOOD
from integration.ssvm_lab.disk_images import qcow2
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.gate import Admission, Verdict, admit_file
from systemvm.ssvm.limits import TIB
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

MAX = 16 * TIB


def admit(image_format: ImageFormat, data: bytes, piece_bytes: int) -> Verdict:
    admission = Admission(image_format, MAX)
    view = memoryview(data)
    for start in range(0, len(data), piece_bytes):
        admission.feed(view[start : start + piece_bytes])
    return admission.verdict()


def outcome_of_file(path: Path, image_format: ImageFormat) -> Verdict | TransferFailure:
    with path.open("rb") as file:
        try:
            return admit_file(file.fileno(), image_format, MAX)
        except TransferError as error:
            return error.code


def test_corpus_has_300_cases_with_names_of_their_own() -> None:
    assert len(GOOD) + len(BAD) >= 300
    assert (
        {each.format for each in GOOD.values()} == {each.format for each in BAD.values()} == set(ImageFormat)
    )


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_image_is_accepted_with_its_size(name: str, tmp_path: Path) -> None:
    case = GOOD[name]
    data = case.make()
    expected = Verdict(case.format, len(data), case.virtual_size_bytes)
    for piece_bytes in (1 << 20, 3001):
        assert admit(case.format, data, piece_bytes) == expected
    path = tmp_path / "image"
    path.write_bytes(data)
    assert outcome_of_file(path, case.format) == expected


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_image_is_refused_with_its_code(name: str, tmp_path: Path) -> None:
    case = BAD[name]
    data = case.make()
    for piece_bytes in (1 << 20, 3001):
        with pytest.raises(TransferError) as refused:
            admit(case.format, data, piece_bytes)
        assert refused.value.code is case.code, refused.value.message
        assert refused.value.message.isprintable()
    path = tmp_path / "image"
    path.write_bytes(data)
    assert outcome_of_file(path, case.format) is case.code


def test_an_unsafe_header_is_refused_before_the_rest_arrives() -> None:
    admission = Admission(ImageFormat.QCOW2, TIB)
    with pytest.raises(TransferError):
        admission.feed(qcow2(backing="/etc/passwd")[:512])


def known_late(name: str) -> bool:
    """Whether only the end of a file, or a table behind its first MiB, decides."""
    ends = ("fixed VHD ", "VHD of type", "footer behind", "raw as VHD", "VMDK for streams with", "dmg as raw")
    return name.startswith(
        ("nothing as", *ends, "fixed vhd as raw", "VHDX ", "OVA with a differencing VHD")
    ) or (name.startswith("dynamic VHD") and name.endswith((" behind", "two sizes")))


EARLY = [each for each in BAD.values() if each.code is not TransferFailure.FORMAT_DAMAGED]


@pytest.mark.parametrize("name", [each.name for each in EARLY if not known_late(each.name)])
def test_a_wrong_format_is_refused_within_the_first_mib(name: str) -> None:
    case = BAD[name]
    data = case.make()
    admission = Admission(case.format, MAX)
    with pytest.raises(TransferError) as refused:
        admission.feed(data[: 1 << 20].ljust(1 << 20, b"\0"))
    assert refused.value.code is case.code
