# SPDX-License-Identifier: Apache-2.0
"""The refusals of an image: unsafe, damaged, or too large."""

from __future__ import annotations

from typing import NoReturn

from systemvm.ssvm.failure import TransferError
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure


def unsafe(image_format: ImageFormat, why: str, hint: str) -> NoReturn:
    raise TransferError(
        TransferFailure.FORMAT_UNSAFE, f"the {image_format.value} image is refused: {why}", hint
    )


def damaged(image_format: ImageFormat, why: str, hint: str = "") -> NoReturn:
    raise TransferError(
        TransferFailure.FORMAT_DAMAGED,
        f"the {image_format.value} image is damaged: {why}",
        hint or "compare it with the publisher's file",
    )


def require_virtual_size(image_format: ImageFormat, size_bytes: int, max_size_bytes: int) -> None:
    """Check the size of a disk.

    Raises: TransferError when the disk is empty, no multiple of a sector, or above the limit.
    """
    if size_bytes > max_size_bytes:
        raise TransferError(
            TransferFailure.TOO_LARGE,
            f"the disk in the image has {size_bytes} bytes, the limit is {max_size_bytes}",
        )
    if size_bytes <= 0:
        damaged(image_format, "its disk is empty")
    if size_bytes % 512:
        damaged(image_format, f"its disk has {size_bytes} bytes, which is not a multiple of 512")
