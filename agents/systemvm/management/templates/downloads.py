# SPDX-License-Identifier: Apache-2.0
"""The rows of downloads: assignment, status and end. Functions over a connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from systemvm.management.state import events, snapshot_images, store_refs, templates, uploads
from systemvm.management.state.columns import new_uuid, now
from systemvm.management.state.copy_sources import choose_source
from systemvm.management.state.database import Connection
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.templates.copy_orders import MAX_COPY_FAILURES
from systemvm.management.templates.wait_reason import WaitReason
from systemvm.service.redaction import redact_urls
from systemvm.wire.storage import DownloadError, DownloadState, DownloadStatus, DownloadStep
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.vm_name import VmName

#: The columns of a download that begins anew.
_RENEWED: dict[str, Any] = {
    "state": DownloadState.NOT_DOWNLOADED,
    "agent_name": None,
    "percent": 0,
    "received_bytes": 0,
    "total_bytes": None,
    "reserved_bytes": None,
    "error_code": None,
    "error_text": None,
    "error_hint": None,
}
#: What users do about a template without a URL.
UPLOAD_AGAIN = (
    "Upload it again: call renewUploadParamsForTemplate or renewUploadParamsForIso, or run "
    '"systemvm template upload FILE --resume ID".'
)
#: CloudStack's alert of type 28 (UPLOAD_FAILED); alerts are events here.
UPLOAD_FAILED_ALERT = "ALERT.UPLOAD.FAILED"
_STORE_WAIT = DownloadError(
    WaitReason.STORE_HANGS.value, "", "Waiting for its store, which is busy or does not answer."
)
_TURN_WAIT = DownloadError(
    WaitReason.LARGE.value, "", "Waiting for its turn: other large downloads run. Smaller ones go before it."
)


_SOURCE_WAIT = DownloadError(
    WaitReason.NO_SOURCE.value,
    "",
    "Waiting for the secondary storage VM of the other zone, which has the template. It then continues.",
)


def assign(connection: Connection, ref_id: int, agent_name: str, before: str | None) -> bool:
    """Assign a download to an SSVM, if it is still assigned to `before` (None: to none) and has not ended."""
    if not store_refs.assign(connection, ref_id, agent_name, before):
        return False
    _record(connection, store_refs.by_id(connection, ref_id), "ASSIGN", f"is assigned to {agent_name}")
    return True


def unassign(connection: Connection, ref_id: int, agent_name: str) -> None:
    """Release a download that an SSVM rejected: any SSVM can get it now."""
    store_refs.unassign(connection, ref_id, agent_name)


def note_waiting(
    connection: Connection, ref_ids: Sequence[int], reason: str, hint: str, *, with_events: bool = True
) -> None:
    """Record why downloads wait: `reason` is the code, `hint` the text for users. Their state stays."""
    changed = store_refs.with_other_hint(connection, ref_ids, hint) if with_events else []
    store_refs.set_wait_reason(connection, ref_ids, reason, hint)
    for ref in changed:
        _record(connection, ref, "WAIT", hint, level="WARN")


def apply_status(connection: Connection, agent_name: str, status: DownloadStatus) -> StoreRef | None:
    """Apply a status that an SSVM reports; None when the job is not assigned to it. An end is final."""
    ref = templates.store_ref_of_job(connection, status.job_id)
    if ref is None or VmName(ref.agent_name or "") != VmName(agent_name):
        return None
    if ref.state.ended or ref.removed is not None:
        return ref
    if status.state is DownloadState.DOWNLOAD_ERROR and ref.source_ref_id is not None:
        return _copy_failed(connection, ref, status)
    changes = _changes(status)
    if status.waits_for_source and ref.error_code == _SOURCE_WAIT.code:
        del changes["error_hint"]  # the daemon's names the zone
    # A report of progress writes progress only, because what depends on other columns is read anew after it.
    changes = {
        name: value for name, value in changes.items() if name == "percent" or value != getattr(ref, name)
    }
    ref = templates.update_store_ref(connection, ref.id, **changes)
    if ref.state.ended:
        _record_end(connection, ref, status.steps)
    return ref


def note_source(connection: Connection, ref_id: int, source_ref_id: int | None) -> None:
    """Record which copy a copy is made from; None for a download by URL."""
    templates.update_store_ref(connection, ref_id, source_ref_id=source_ref_id)


def begin_anew(connection: Connection, ref_id: int) -> StoreRef:
    """Order a failed copy again, as a new job."""
    return templates.update_store_ref(
        connection, ref_id, **_RENEWED, job_id=new_uuid(), copy_failures=0, source_ref_id=None, upload_id=None
    )


def begin_upload(
    connection: Connection, ref_id: int, upload_id: str, agent_name: str, request_id: str
) -> StoreRef:
    """Make a copy one that its user uploads to this SSVM, as a new job."""
    changes = _RENEWED | {"agent_name": agent_name, "upload_id": upload_id, "source_ref_id": None}
    return templates.update_store_ref(connection, ref_id, **changes, job_id=new_uuid(), request_id=request_id)


def give_up_copying(connection: Connection, ref_id: int, failures: int) -> None:
    """Have the URL used from now on."""
    templates.update_store_ref(connection, ref_id, copy_failures=failures, source_ref_id=None)


def _copy_failed(connection: Connection, ref: StoreRef, status: DownloadStatus) -> StoreRef:
    """Begin a failed copy anew, by its URL after some failures; without a URL it ends after one more."""
    template = templates.by_id(connection, ref.template_id)
    failures = ref.copy_failures + 1
    if failures > MAX_COPY_FAILURES and not template.url:
        ref = templates.update_store_ref(connection, ref.id, **_changes(status), copy_failures=failures)
        _record_end(connection, ref, status.steps)
        return ref
    why = status.error.message if status.error else "unknown"
    _record(connection, ref, "COPY.FAILED", f"cannot be copied: {why}", level="WARN")
    return templates.update_store_ref(
        connection, ref.id, **_RENEWED, job_id=new_uuid(), copy_failures=failures, source_ref_id=None
    )


def requeue(connection: Connection, ref_id: int, job_id: str) -> StoreRef | None:
    """Download a Ready copy again that is missing on its store, as a new job; None when it has changed
    since.
    """
    ref = store_refs.by_id(connection, ref_id)
    template = templates.by_id(connection, ref.template_id)
    if ref.job_id != job_id or ref.state is not DownloadState.DOWNLOADED or template.removed is not None:
        return None
    changes: dict[str, Any] = {
        "state": DownloadState.NOT_DOWNLOADED,
        "job_id": new_uuid(),
        "agent_name": None,
        "percent": 0,
        "received_bytes": 0,
        "install_path": None,
        "reserved_bytes": None,
        "error_hint": "It was missing on its store, and is downloaded again.",
        "copy_failures": 0,
        "source_ref_id": None,
        "upload_id": None,
    }
    if not template.url and not _can_be_made(connection, ref):
        changes = {
            "state": DownloadState.DOWNLOAD_ERROR,
            "error_code": TransferFailure.LOST.value,
            "error_text": "The template is missing on its store.",
            "error_hint": "Register it again: it has no URL to download it from."
            if ref.upload_id is None
            else UPLOAD_AGAIN,
        }
    ref = templates.update_store_ref(connection, ref_id, **changes)
    events.record(
        connection,
        "ISO.LOST" if template.is_iso else "TEMPLATE.LOST",
        f"{template.name} is missing on its store",
        account_id=template.account_id,
        domain_id=template.domain_id,
        level="WARN",
        resource_type="Iso" if template.is_iso else "Template",
        resource_uuid=template.uuid,
    )
    return ref


def retry(connection: Connection, template_id: int, request_id: str) -> list[StoreRef]:
    """Give each failed copy of a template a new job, if it can be downloaded or copied; return these."""
    template = templates.by_id(connection, template_id)
    failed = [
        ref
        for ref in store_refs.failed_of_template(connection, template_id)
        if template.url or _can_be_made(connection, ref)
    ]
    for ref in failed:
        renewed = templates.update_store_ref(
            connection,
            ref.id,
            **_RENEWED,
            job_id=new_uuid(),
            request_id=request_id,
            copy_failures=0,
            source_ref_id=None,
            upload_id=None,
        )
        _record(connection, renewed, "RETRY", f"is retried after: {ref.error_text}")
    return failed


def _can_be_made(connection: Connection, ref: StoreRef) -> bool:
    """Return whether another copy of a template is Ready, or the snapshot that it was made from is there."""
    has_copy = choose_source(connection, ref) is not None
    return has_copy or snapshot_images.source_of(connection, ref.template_id) is not None


def fail(connection: Connection, ref_id: int, error: DownloadError) -> None:
    """End a download that an SSVM rejected."""
    message, hint = redact_urls(error.message), redact_urls(error.hint)
    if store_refs.fail(connection, ref_id, error.code, message, hint):
        _record_end(connection, store_refs.by_id(connection, ref_id))


def needs_no_slot(ref: StoreRef) -> bool:
    """Return whether the assigned SSVM reported that the download waits for its store, source or turn."""
    waits = (_STORE_WAIT.code, _TURN_WAIT.code, _SOURCE_WAIT.code)
    return ref.state is DownloadState.DOWNLOAD_IN_PROGRESS and ref.error_code in waits


def _wait_of(status: DownloadStatus) -> DownloadError | None:
    if status.waits_for_store:
        return _STORE_WAIT
    if status.waits_for_source:
        return _SOURCE_WAIT
    return _TURN_WAIT if status.waits_for_turn else None


def _changes(status: DownloadStatus) -> dict[str, Any]:
    error = status.error or _wait_of(status)
    return {
        "state": status.state,
        "percent": status.percent,
        "received_bytes": status.received_bytes,
        "total_bytes": status.total_bytes,
        "error_code": error.code if error else None,
        "error_text": redact_urls(error.message) or None if error else None,
        "error_hint": (redact_urls(error.hint) or None) if error else None,
        "install_path": status.install_path,
        "physical_size_bytes": status.physical_size_bytes,
        "virtual_size_bytes": status.virtual_size_bytes,
        "checksum": status.checksum,
    } | ({"image_checksum": status.image_checksum} if status.image_checksum else {})


def _record_end(connection: Connection, ref: StoreRef, steps: Sequence[DownloadStep] = ()) -> None:
    """Record the steps of the guest and the end.

    The guest's clock can be wrong: a step is not earlier than what was recorded before it, nor in the future.
    """
    template = templates.by_id(connection, ref.template_id)
    before = events.newest(
        connection, 1, events.EventFilter(resource_uuid=template.uuid, request_id=ref.request_id)
    )
    earliest = before[0].created if before else ref.created
    for step in steps:
        earliest = max(earliest, min(datetime.fromtimestamp(step.at_unix_s, UTC), now()))
        _record(connection, ref, "STEP", f"{ref.agent_name} {step.text}", created=earliest)
    if ref.state is DownloadState.DOWNLOADED:
        how = "downloaded" if ref.upload_id is None else "uploaded"
        _record(connection, ref, "SUCCESS", f"is {how} and Ready")
    else:
        text = f"failed: {ref.error_text}" + (f" ({ref.error_hint})" if ref.error_hint else "")
        _record(connection, ref, "FAILED", text, level="ERROR")
    if ref.upload_id is not None:
        uploads.delete(connection, ref.upload_id)
        if ref.state is not DownloadState.DOWNLOADED:
            why = f"{template.name} failed to upload: {ref.error_text}"
            events.record(connection, UPLOAD_FAILED_ALERT, why, **_about(template, ref), level="ERROR")


def _record(
    connection: Connection, ref: StoreRef, what: str, text: str, *, level: str = "INFO", **columns: Any
) -> None:
    """Record an event of a download, or of an upload: CloudStack has one type for all of an upload."""
    template = templates.by_id(connection, ref.template_id)
    if template.is_hidden:  # what it is for has events of its own
        return
    kind = f"{'ISO' if template.is_iso else 'TEMPLATE'}."
    kind += "UPLOAD" if ref.upload_id is not None else f"DOWNLOAD.{what}"
    text = f"{template.name} {text}"
    events.record(connection, kind, text, **_about(template, ref), level=level, **columns)


def _about(template: Template, ref: StoreRef) -> dict[str, Any]:
    return {
        "account_id": template.account_id,
        "domain_id": template.domain_id,
        "resource_type": "Iso" if template.is_iso else "Template",
        "resource_uuid": template.uuid,
        "request_id": ref.request_id,
    }


def forget_files(connection: Connection, ref_id: int) -> None:
    """Mark the files of a deleted template as removed from the store."""
    ref = templates.update_store_ref(connection, ref_id, removed=now())
    if ref.upload_id is not None:
        uploads.delete(connection, ref.upload_id)
