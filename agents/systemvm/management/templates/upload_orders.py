# SPDX-License-Identifier: Apache-2.0
"""The order of an upload to its SSVM, the same each time that it is sent."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from systemvm.management.state import uploads
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.database import Connection
from systemvm.management.state.pending_work import DownloadTask
from systemvm.management.templates.downloads import UPLOAD_AGAIN
from systemvm.management.templates.upload_signing import UploadSigner, expires_text
from systemvm.wire.storage import DownloadError
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import UploadRequest


class SizeLimit(Protocol):
    def max_template_size_bytes(self, zone_name: str) -> int: ...


@frozen
class UploadOrders:
    """Makes orders; browsers upload from pages of `allowed_origins`."""

    signer: UploadSigner
    settings: SizeLimit
    allowed_origins: tuple[str, ...] = ()

    def request(self, connection: Connection, task: DownloadTask) -> UploadRequest:
        """Return the order of a copy that is uploaded.

        Raises: NotFoundError when its upload has ended, KeystoreError when it cannot be signed.
        """
        template, ref = task.template, task.ref
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
            max_size_bytes=self.settings.max_template_size_bytes(task.zone.name),
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
            total_bytes=ref.total_bytes,
        )


def upload_lost(name: str) -> DownloadError:
    """Return why an upload ends whose SSVM is destroyed."""
    return DownloadError(
        TransferFailure.UPLOAD_LOST.value,
        f"{name} was destroyed, and the URL of the upload is its address",
        UPLOAD_AGAIN,
    )


def upload_expired(name: str) -> DownloadError:
    """Return why an upload ends that could not begin in time, because its SSVM is not Up."""
    return DownloadError(
        TransferFailure.UPLOAD_EXPIRED.value, f"upload did not begin in time: {name} is not Up", UPLOAD_AGAIN
    )
