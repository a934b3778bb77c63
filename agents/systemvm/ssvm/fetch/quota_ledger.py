# SPDX-License-Identifier: Apache-2.0
"""What the downloads of this fetch take of their accounts' limits: no two count on the same bytes.

Sans-IO. The daemon gives each job what its account had left when the job was requested, without the jobs of
this SSVM, as it does not know their sizes yet.
"""

from __future__ import annotations

from attrs import define

from systemvm.ssvm.account_quota import quota_exceeded


@define
class _Job:
    account_id: int
    left_bytes: int | None  # None: the account has no limit
    reserved_bytes: int = 0


class QuotaLedger:
    """The jobs that run, by their id."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    def join(self, job_id: str, account_id: int, left_bytes: int | None) -> None:
        self._jobs[job_id] = _Job(account_id, left_bytes)

    def left_for(self, job_id: str) -> int | None:
        """Return how large this job's image can be; None without a limit."""
        job = self._jobs[job_id]
        if job.left_bytes is None:
            return None
        others = (each for other, each in self._jobs.items() if other != job_id)
        reserved = sum(each.reserved_bytes for each in others if each.account_id == job.account_id)
        return max(0, job.left_bytes - reserved)

    def reserve(self, job_id: str, size_bytes: int) -> None:
        """Reserve the size of a file before its first byte.

        Raises: TransferError `quota_exceeded` when the account has not as much left.
        """
        left_bytes = self.left_for(job_id)
        if left_bytes is not None and size_bytes > left_bytes:
            raise quota_exceeded(f"the image has {size_bytes} bytes", left_bytes)
        self._jobs[job_id].reserved_bytes = size_bytes

    def leave(self, job_id: str, stored_bytes: int = 0) -> None:
        """Note that a job has ended; what it has stored is not in what the others were given."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        for other in self._jobs.values():
            if other.account_id == job.account_id and other.left_bytes is not None:
                other.left_bytes = max(0, other.left_bytes - stored_bytes)
