# SPDX-License-Identifier: Apache-2.0
"""The error of an image that exceeds its account's limit of secondary storage."""

from __future__ import annotations

from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure


def quota_exceeded(what: str, left_bytes: int) -> TransferError:
    return TransferError(
        TransferFailure.QUOTA_EXCEEDED,
        f"the account's limit of secondary storage is exceeded: {what}, {left_bytes} are left",
        "delete templates or ISOs of the account, or have max_account_secondary_storage_gib raised",
    )
