# SPDX-License-Identifier: Apache-2.0
"""Check the image inspectors with images of qemu-img."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.ssvm_lab import disk_images
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats.by_format import for_format
from systemvm.ssvm.limits import TIB
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure


def inspect(data: bytes) -> int:
    inspector = for_format(ImageFormat.QCOW2, 16 * TIB)
    inspector.feed(data)
    return inspector.finish()


def code_of(data: bytes) -> TransferFailure | None:
    try:
        inspect(data)
    except TransferError as error:
        return error.code
    return None


@pytest.mark.parametrize("options", [(), ("-o", "compat=0.10"), ("-o", "cluster_size=2M"),
                                     ("-o", "cluster_size=512"),
                                     ("-o", "compression_type=zstd"), ("-o", "extended_l2=on"),
                                     ("-o", "preallocation=metadata")], ids=str)  # fmt: skip
def test_images_of_qemu_img_are_accepted(tmp_path: Path, options: tuple[str, ...]) -> None:
    data = disk_images.real_qcow2(tmp_path / "image.qcow2", *options)
    assert inspect(data) == 64 << 20


def test_images_of_qemu_img_that_use_other_files_are_refused(tmp_path: Path) -> None:
    disk_images.real_qcow2(tmp_path / "base.qcow2")
    backed = disk_images.real_qcow2(tmp_path / "b.qcow2", "-b", str(tmp_path / "base.qcow2"), "-F", "qcow2")
    external = disk_images.real_qcow2(
        tmp_path / "e.qcow2", "-o", f"data_file={tmp_path / 'data'},data_file_raw=on"
    )
    assert code_of(backed) is code_of(external) is TransferFailure.FORMAT_UNSAFE


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ("--object", "secret,id=s,data=0123456789", "-o", "encrypt.format=luks,encrypt.key-secret=s"),
            "LUKS",
        ),
        (("--object", "secret,id=s,data=0123456789", "-o", "encrypt.format=aes,encrypt.key-secret=s"), "AES"),
    ],
)
def test_an_encrypted_image_is_refused_by_its_cipher(
    tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    data = disk_images.real_qcow2(tmp_path / "image.qcow2", *options)
    with pytest.raises(TransferError, match=rf"it is encrypted \({reason}\)") as refused:
        inspect(data)
    assert refused.value.code is TransferFailure.FORMAT_UNSAFE
