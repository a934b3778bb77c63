# SPDX-License-Identifier: Apache-2.0
"""Reserves bytes of an account's limit for downloads, uploads and copies, when their sizes are known."""

from __future__ import annotations

from systemvm.management.state import storage_quota, store_refs, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.pending_work import DownloadTask
from systemvm.management.state.rows import NotFoundError
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.service.errors import FailureCode, SystemVmError


class QuotaExceededError(SystemVmError):
    """An image for which its account has no secondary storage left."""

    code = FailureCode.NO_CAPACITY


class QuotaReservations:
    """Reservations belong to the rows of copies, and end with them."""

    def __init__(self, database: Database, settings: StoreSettings) -> None:
        self._database = database
        self._settings = settings

    async def of_job(self, job_id: str, size_bytes: int) -> None:
        """Reserve for a job; repeating it has no effect, and a job that no longer exists needs nothing.

        Raises: QuotaExceededError when the account has not as much left.
        """
        await self._database.run(self._of_job, job_id, size_bytes)

    async def of_copy(self, task: DownloadTask, size_bytes: int) -> None:
        """Reserve for a copy whose source's size is known.

        Raises: QuotaExceededError when the account has not as much left.
        """
        if task.ref.reserved_bytes != size_bytes:
            await self._database.run(self._reserve, task.ref.id, size_bytes)

    def _of_job(self, connection: Connection, job_id: str, size_bytes: int) -> None:
        ref = templates.store_ref_of_job(connection, job_id)
        if ref is not None:
            self._reserve(connection, ref.id, size_bytes)

    def _reserve(self, connection: Connection, ref_id: int, size_bytes: int) -> None:
        try:
            ref = store_refs.by_id(connection, ref_id)
        except NotFoundError:
            return
        if ref.state.ended or ref.removed is not None:
            return
        template = templates.by_id(connection, ref.template_id)
        zone = zones.zone_by_id(connection, zones.store_by_id(connection, ref.store_id).zone_id)
        limit_gib = self._settings.secondary_storage(zone.name).max_account_secondary_storage_gib
        limit = storage_quota.limit_bytes(connection, template.account_id, limit_gib)
        if limit is None or storage_quota.reserve(connection, ref, template, zone.id, size_bytes, limit):
            return
        left = storage_quota.quota_left(connection, template, zone.id, None, limit_gib)
        raise QuotaExceededError(
            f"the account's limit of secondary storage is exceeded: the image has {size_bytes} bytes,"
            f" {left} are left",
            "delete templates or ISOs of the account, or have max_account_secondary_storage_gib raised",
        )
