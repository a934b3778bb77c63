# SPDX-License-Identifier: Apache-2.0
"""The order of an upload to its SSVM, the same each time that it is sent."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from systemvm.management.state import uploads
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.database import Connection
from systemvm.management.state.pending_work import DownloadTask
from systemvm.management.state.storage_quota import quota_left
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.management.templates.upload_signing import UploadSigner, expires_text
from systemvm.wire.upload import UploadRequest


class SizeLimits(StoreSettings, Protocol):
    """The settings of a zone that limit an upload."""

    def max_template_size_bytes(self, zone_name: str) -> int: ...


@frozen
class UploadOrders:
    """Makes orders; browsers upload from pages of `allowed_origins`."""

    signer: UploadSigner
    settings: SizeLimits
    allowed_origins: tuple[str, ...] = ()

    def request(self, connection: Connection, task: DownloadTask) -> UploadRequest:
        """Return the order of a copy that is uploaded.

        Raises: NotFoundError when its upload has ended, KeystoreError when it cannot be signed.
        """
        template, ref = task.template, task.ref
        left_bytes = self._left_bytes(connection, task)
        upload = uploads.of_ref(connection, ref)
        return UploadRequest(
            job_id=ref.job_id,
            request_id=ref.request_id or new_uuid(),
            template_id=template.id,
            account_id=template.account_id,
            unique_name=template.unique_name,
            description=template.display_text,
            format=template.format,
            store=task.store.wire,
            max_size_bytes=self._max_size_bytes(task, left_bytes),
            upload_id=upload.upload_id,
            post_url=upload.post_url,
            metadata=upload.metadata,
            expires=expires_text(upload.expires),
            expires_unix_s=upload.expires.timestamp(),
            signature=self.signer.sign(connection, upload),
            checksum=template.checksum,
            public=template.public,
            hvm=template.hvm,
            allowed_origins=list(self.allowed_origins),
            quota_bytes=left_bytes,
            total_bytes=ref.total_bytes,
        )

    def _left_bytes(self, connection: Connection, task: DownloadTask) -> int | None:
        """Return what the account has left; downloads that run count, too."""
        quota_gib = self.settings.secondary_storage(task.zone.name).max_account_secondary_storage_gib
        return quota_left(connection, task.template, task.zone.id, None, quota_gib)

    def _max_size_bytes(self, task: DownloadTask, left_bytes: int | None) -> int:
        """Return the zone's limit, or what the account has left."""
        most_bytes = self.settings.max_template_size_bytes(task.zone.name)
        return most_bytes if left_bytes is None else min(most_bytes, left_bytes)
