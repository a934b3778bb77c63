# SPDX-License-Identifier: Apache-2.0
"""The space on each store that running downloads still need: two of them must not count on the same bytes.

Sans-IO. What a job has written is not free any more, so only what it still lacks is reserved.
"""

from __future__ import annotations

from attrs import define

from systemvm.ssvm.failure import TransferError
from systemvm.wire.transfer_failure import TransferFailure


@define
class _Reservation:
    mount_id: str
    total_bytes: int
    received_bytes: int = 0

    @property
    def missing_bytes(self) -> int:
        return max(0, self.total_bytes - self.received_bytes)


class SpaceLedger:
    """The reservations of all jobs of this fetch, by job id."""

    def __init__(self) -> None:
        self._reservations: dict[str, _Reservation] = {}

    def reserve(
        self, job_id: str, mount_id: str, total_bytes: int, free_bytes: int, kept_bytes: int = 0
    ) -> None:
        """Reserve space for a file of `total_bytes` on a store that has `free_bytes`.

        `kept_bytes` of the file are there already, from an attempt that is continued.

        Raises: TransferError `store_full` when others need what is free.
        """
        reserved_bytes = sum(
            each.missing_bytes
            for other, each in self._reservations.items()
            if each.mount_id == mount_id and other != job_id
        )
        if total_bytes - kept_bytes > free_bytes - reserved_bytes:
            others = f", {reserved_bytes} of them for other downloads" if reserved_bytes else ""
            raise TransferError(
                TransferFailure.STORE_FULL,
                f"secondary storage is full: the image has {total_bytes} bytes,"
                f" {free_bytes} are free{others}",
                "free space on the store or add another one, then retry the template",
            )
        self._reservations[job_id] = _Reservation(mount_id, total_bytes, kept_bytes)

    def note(self, job_id: str, received_bytes: int) -> None:
        """Note how much of the file a job has received, and so written."""
        reservation = self._reservations.get(job_id)
        if reservation is not None:
            reservation.received_bytes = max(reservation.received_bytes, received_bytes)

    def release(self, job_id: str) -> None:
        """Give back what a job has reserved; repeating it has no effect."""
        self._reservations.pop(job_id, None)
