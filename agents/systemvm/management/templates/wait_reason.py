# SPDX-License-Identifier: Apache-2.0
"""Why a download waits: codes for programs, and texts for users."""

from __future__ import annotations

import enum

from systemvm.rpc.core.errors import BUSY, DEADLINE, NOT_CONNECTED, REFUSED, RpcError
from systemvm.wire.slowness import Delay
from systemvm.wire.store_failure import StoreFailure
from systemvm.wire.transfer_failure import TransferFailure


class WaitReason(enum.Enum):
    """The `error_code` of a download that has not ended; a rejection by an SSVM has codes of its own."""

    NO_SSVM = "no_ssvm"
    DISCONNECTED = "disconnected"
    NO_SOURCE = "no_source"  # no SSVM serves the source of a copy between zones
    BUSY = Delay.BUSY.value
    SLOW = "slow"  # a call passed its deadline, and nothing failed
    STORE_NOT_MOUNTED = StoreFailure.NOT_MOUNTED.value
    MOUNT_FAILED = StoreFailure.MOUNT_FAILED.value
    STORE_HANGS = StoreFailure.HANGS.value
    STORE_REFUSES = StoreFailure.REFUSES.value
    STORE_UNREACHABLE = StoreFailure.UNREACHABLE.value
    LARGE = "large"  # other large downloads run, and leave a place to smaller ones
    INTERNAL = TransferFailure.INTERNAL.value

    @property
    def is_of_store(self) -> bool:
        """Return whether another store, or another SSVM, might do what this one cannot."""
        return self in (
            WaitReason.STORE_NOT_MOUNTED,
            WaitReason.MOUNT_FAILED,
            WaitReason.STORE_HANGS,
            WaitReason.STORE_REFUSES,
            WaitReason.STORE_UNREACHABLE,
        )

    @property
    def is_of_ssvm(self) -> bool:
        """Return whether the whole SSVM must not be called for a while."""
        return self in (WaitReason.BUSY, WaitReason.SLOW)

    @property
    def was_not_taken(self) -> bool:
        """Return whether the SSVM has certainly not begun: another one can get the download."""
        return self is WaitReason.BUSY or self.is_of_store

    @classmethod
    def of(cls, error: RpcError) -> WaitReason | None:
        """Return why a later attempt might succeed; None when the error is final.

        >>> WaitReason.of(RpcError(DEADLINE, "late")).value
        'slow'
        >>> WaitReason.of(RpcError.refused("url_denied", "no"))
        """
        if error.code == REFUSED:
            return next((reason for reason in cls if reason.value == error.reason), None)
        return {BUSY: cls.BUSY, DEADLINE: cls.SLOW, NOT_CONNECTED: cls.DISCONNECTED}.get(
            error.code, cls.INTERNAL
        )


def hint_for_zone(reason: WaitReason, zone_name: str, ssvms: list[str]) -> str:
    """Return the text for a waiting download that was not offered to an SSVM yet."""
    names = ", ".join(ssvms)
    match reason:
        case WaitReason.NO_SSVM:
            return f"Waiting for a secondary storage VM of zone {zone_name} to come Up."
        case WaitReason.SLOW:
            return f"Waiting for {names}, which did not answer in time. The daemon tries again."
    return f"Waiting for a free slot: other downloads use all slots of {names}."


def hint_for_refusal(agent_name: str, error: RpcError) -> str:
    if error.code == DEADLINE:
        return f"{agent_name} is slow: {error.message}. The daemon tries again; nothing is lost."
    return f"{agent_name}: {error.message}" + (f" ({error.hint})" if error.hint else "")
