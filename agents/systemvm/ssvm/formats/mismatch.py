# SPDX-License-Identifier: Apache-2.0
"""The error when the first bytes of an image belong to another format."""

from __future__ import annotations

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.formats import signatures
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure


def refuse_other_format(head: bytes, claimed: ImageFormat) -> None:
    """Check a head of a format that has no magic number.

    Raises: TransferError when a stream of a format without a magic number begins like another format.
    """
    found = signatures.disk_format(head)
    if found is None and (packed := signatures.compression(head)):
        found = f"{packed} file inside another compressed file"
    if found is not None:
        raise mismatch(claimed, found)


def mismatch(claimed: ImageFormat, found: str | None) -> TransferError:
    what = f"it is a {found}" if found else "its content is something else"
    hint = "check the URL: the server sent a page, not an image" if found == "web page" else ""
    return TransferError(
        TransferFailure.FORMAT_MISMATCH,
        f"the file is registered as {claimed.value}, but {what}",
        hint or "register it with its real format",
    )
