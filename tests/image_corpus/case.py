# SPDX-License-Identifier: Apache-2.0
"""A case of the corpus, made when it is needed: some images have many megabytes."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

MISMATCH, UNSAFE = TransferFailure.FORMAT_MISMATCH, TransferFailure.FORMAT_UNSAFE
DAMAGED, TOO_LARGE = TransferFailure.FORMAT_DAMAGED, TransferFailure.TOO_LARGE


@frozen
class Case:
    """An image with its verdict: a virtual size, or the code of its refusal."""

    name: str
    format: ImageFormat
    make: Callable[[], bytes]
    virtual_size_bytes: int = 0
    code: TransferFailure | None = None
