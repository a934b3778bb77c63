# SPDX-License-Identifier: Apache-2.0
"""How an SSVM gets a template: copied from a store, by the link of another SSVM, or by its URL."""

from __future__ import annotations

from typing import Protocol

from attrs import evolve, field, frozen

from systemvm.management.state.columns import new_uuid
from systemvm.management.state.copy_sources import CopySource
from systemvm.management.state.pending_work import DownloadTask
from systemvm.management.state.snapshot_images import SnapshotSource
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.source_access import SourceAccess
from systemvm.wire.source_networks import SsvmAddress
from systemvm.wire.storage import CopyRequest, DownloadRequest, DownloadState

#: After so many failed copies, a link or the URL is used.
MAX_COPY_FAILURES = 2


@frozen
class SourceLink:
    """A temporary URL of a file on a store, which the SSVM of its zone serves."""

    url: str = field(repr=False)
    server: SsvmAddress
    ca_pem: str | None = None  # that its certificate is verified with


class SourceUnavailableError(SystemVmError):
    """A copy between zones whose source is served by no SSVM now: it waits."""

    code = FailureCode.UNAVAILABLE

    def __init__(self, zone_name: str, why: str = "") -> None:
        waits = f"Waiting for a secondary storage VM of zone {zone_name}, which has the template"
        super().__init__(f"{waits}: {why}" if why else f"{waits}, to come Up.")


class SourceLinks(Protocol):
    """Makes links to files on stores that the SSVM of another zone cannot mount."""

    async def link(self, task: DownloadTask, source: CopySource) -> SourceLink | None:
        """Return a link for the file; None when the SSVMs of its zone serve no files.

        Raises: SourceUnavailableError when none of them is Up.
        """


class NoSourceLinks:
    """For a cloud whose SSVMs serve no files."""

    async def link(self, task: DownloadTask, source: CopySource) -> SourceLink | None:
        return None


def can_be_copied(task: DownloadTask) -> bool:
    """Return whether a job is or can become a copy: one that its SSVM downloads already stays a download."""
    ref = task.ref
    return ref.source_ref_id is not None or ref.state is DownloadState.NOT_DOWNLOADED


def is_between_zones(task: DownloadTask, source: CopySource) -> bool:
    return source.store.zone_id != task.zone.id


def linked_request(request: DownloadRequest, source: CopySource, link: SourceLink) -> DownloadRequest:
    """Return the download of a link, by the zone's proxy if it has one, as in CloudStack.

    Nothing else of the template's own source belongs to it: the other SSVM gets no login.
    """
    authorities = [pem for pem in (link.ca_pem, request.source_ca_pem) if pem]
    return evolve(
        request,
        url=link.url,
        checksum=source.checksum,
        source_ca_pem="\n".join(authorities) or None,
        access=SourceAccess(proxy=request.access.proxy),
        source_server=link.server,
        # every copy with this digest continues a journal; without one, only that from the same job
        content_id=source.checksum or f"copy of {source.ref.job_id}",
        max_size_bytes=max(request.max_size_bytes, source.ref.physical_size_bytes or 0),
    )


def snapshot_request(task: DownloadTask, source: SnapshotSource) -> CopyRequest:
    """Return the order to make a template from a snapshot."""
    template, ref = task.template, task.ref
    return CopyRequest(
        job_id=ref.job_id,
        request_id=ref.request_id or new_uuid(),
        template_id=template.id,
        account_id=template.account_id,
        unique_name=template.unique_name,
        description=template.display_text,
        format=template.format,
        source=source.store.wire,
        source_file=None,
        store=task.store.wire,
        virtual_size_bytes=source.snapshot.size_bytes or 0,
        public=template.public,
        hvm=template.hvm,
        source_chain=source.chain,
    )


def copy_request(task: DownloadTask, source: CopySource) -> CopyRequest:
    template, ref = task.template, task.ref
    return CopyRequest(
        job_id=ref.job_id,
        request_id=ref.request_id or new_uuid(),
        template_id=template.id,
        account_id=template.account_id,
        unique_name=template.unique_name,
        description=template.display_text,
        format=template.format,
        source=source.store.wire,
        source_file=source.file,
        store=task.store.wire,
        virtual_size_bytes=source.ref.virtual_size_bytes or 0,
        source_checksum=source.checksum,
        checksum=source.ref.checksum,
        public=template.public,
        hvm=template.hvm,
    )
