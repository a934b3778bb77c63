# SPDX-License-Identifier: Apache-2.0
"""Downloads in the database: who works on which, and what an SSVM says of it. Functions over a connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import events, instances, templates, zones
from systemvm.management.state.columns import new_uuid, now
from systemvm.management.state.status import InstanceType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore, Zone
from systemvm.wire.slowness import Delay
from systemvm.wire.storage import DownloadError, DownloadState, DownloadStatus, DownloadStep

#: Refusals that a later try may not meet: the template goes on waiting, and its hint tells why.
TRANSIENT_CODES = frozenset({"store_not_mounted", "mount_failed", *(delay.value for delay in Delay)})


@frozen
class Work:
    """A download that is to go on, with all that its SSVM must be told."""

    ref: StoreRef
    template: Template
    store: ImageStore
    zone: Zone


def to_do(connection: sa.Connection) -> list[Work]:
    """Downloads of templates that still exist and have not ended."""
    found = []
    for ref in templates.unfinished(connection):
        template = templates.by_id(connection, ref.template_id)
        if template.removed is None:
            found.append(_work(connection, ref, template))
    return found


def to_delete(connection: sa.Connection) -> list[Work]:
    """Copies on a store whose template was deleted: their files are to go."""
    refs = templates.store_refs.all(connection, templates.store_refs.table.c.removed.is_(None))
    pairs = [(ref, templates.by_id(connection, ref.template_id)) for ref in refs]
    return [_work(connection, ref, template) for ref, template in pairs if template.removed is not None]


def _work(connection: sa.Connection, ref: StoreRef, template: Template) -> Work:
    store = zones.store_by_id(connection, ref.store_id)
    return Work(ref, template, store, zones.zone_by_id(connection, store.zone_id))


def still_to_do(connection: sa.Connection, ref_id: int) -> Work | None:
    """One of `to_do` as it is now; None when it has come to an end."""
    return next((work for work in to_do(connection) if work.ref.id == ref_id), None)


def ssvms_of(connection: sa.Connection, zone_id: int) -> list[str]:
    """Names of the zone's SSVMs."""
    return [
        vm.instance_name
        for vm in instances.list_system(connection, zone_id)
        if vm.type is InstanceType.SECONDARY_STORAGE
    ]


def load_of(connection: sa.Connection) -> dict[str, int]:
    """How many downloads each SSVM has in hand."""
    counts: dict[str, int] = {}
    for ref in templates.unfinished(connection):
        if ref.agent_name:
            counts[ref.agent_name] = counts.get(ref.agent_name, 0) + 1
    return counts


def assign(connection: sa.Connection, ref_id: int, agent_name: str) -> StoreRef:
    ref = templates.update_store_ref(connection, ref_id, agent_name=agent_name)
    _record(connection, ref, "ASSIGN", f"is given to {agent_name}")
    return ref


def note_waiting(connection: sa.Connection, ref_id: int, hint: str) -> None:
    """Say why a download does not go on, for its user to read; its state stays."""
    table = templates.store_refs.table
    changed = templates.store_refs.update_where(
        connection, table.c.id == ref_id, table.c.error_hint.is_distinct_from(hint), error_hint=hint
    )
    if changed:
        _record(connection, templates.store_refs.by_id(connection, ref_id), "WAIT", hint, level="WARN")


def apply_status(connection: sa.Connection, agent_name: str, status: DownloadStatus) -> StoreRef | None:
    """Take an SSVM's word on a job of its own; None for a job that is not its. An end is final."""
    ref = templates.store_ref_of_job(connection, status.job_id)
    if ref is None or (ref.agent_name or "").lower() != agent_name.lower():
        return None
    if ref.state.ended or ref.removed is not None:
        return ref
    ref = templates.update_store_ref(connection, ref.id, **_changes(status))
    if ref.state.ended:
        _record_end(connection, ref, status.steps)
    return ref


def is_wanted_of(connection: sa.Connection, agent_name: str, job_id: str) -> bool:
    """Whether an SSVM is to work on this job: it was given to it, has not ended, and its template lives."""
    ref = templates.store_ref_of_job(connection, job_id)
    if ref is None or ref.removed is not None or ref.state.ended:
        return False
    if (ref.agent_name or "").lower() != agent_name.lower():
        return False
    return templates.by_id(connection, ref.template_id).removed is None


def ready_on(connection: sa.Connection, store_id: int) -> list[tuple[StoreRef, tuple[int, int]]]:
    """What a store should have: each copy with its account and template."""
    table = templates.store_refs.table.c
    refs = templates.store_refs.all(
        connection,
        table.store_id == store_id,
        table.removed.is_(None),
        table.state == DownloadState.DOWNLOADED,
    )
    pairs = [(ref, templates.by_id(connection, ref.template_id)) for ref in refs]
    return [(ref, (one.account_id, one.id)) for ref, one in pairs if one.removed is None]


def bring_again(connection: sa.Connection, ref_id: int, job_id: str) -> StoreRef | None:
    """A Ready copy is gone: download it anew, under a new job. None when it has changed since."""
    ref = templates.store_refs.by_id(connection, ref_id)
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
        "error_hint": "It was not on its store any more, and is downloaded again.",
    }
    if not template.url:
        changes = {
            "state": DownloadState.DOWNLOAD_ERROR,
            "error_code": "lost",
            "error_text": "The template is not on its store any more.",
            "error_hint": "Nobody knows where it came from: register it again.",
        }
    ref = templates.update_store_ref(connection, ref_id, **changes)
    events.record(
        connection,
        "ISO.LOST" if template.is_iso else "TEMPLATE.LOST",
        f"{template.name}: not on its store any more",
        account_id=template.account_id,
        domain_id=template.domain_id,
        level="WARN",
        resource_type="Iso" if template.is_iso else "Template",
        resource_uuid=template.uuid,
    )
    return ref


def fail(connection: sa.Connection, ref_id: int, error: DownloadError) -> None:
    """End a download that an SSVM refused to begin."""
    table = templates.store_refs.table
    changed = templates.store_refs.update_where(
        connection,
        table.c.id == ref_id,
        table.c.state.not_in([DownloadState.DOWNLOADED, DownloadState.DOWNLOAD_ERROR]),
        state=DownloadState.DOWNLOAD_ERROR,
        error_code=error.code,
        error_text=error.message,
        error_hint=error.hint,
    )
    if changed:
        _record_end(connection, templates.store_refs.by_id(connection, ref_id))


def _changes(status: DownloadStatus) -> dict[str, Any]:
    error = status.error
    return {
        "state": status.state,
        "percent": status.percent,
        "received_bytes": status.received_bytes,
        "total_bytes": status.total_bytes,
        "error_code": error.code if error else None,
        "error_text": error.message if error else None,
        "error_hint": (error.hint or None) if error else None,
        "install_path": status.install_path,
        "physical_size_bytes": status.physical_size_bytes,
        "virtual_size_bytes": status.virtual_size_bytes,
        "checksum": status.checksum,
    }


def _record_end(connection: sa.Connection, ref: StoreRef, steps: Sequence[DownloadStep] = ()) -> None:
    """The end, and before it the guest's steps, at its own times as far as its clock is believed."""
    for step in steps:
        at = max(ref.created, min(datetime.fromtimestamp(step.at_unix_s, UTC), now()))
        _record(connection, ref, "STEP", f"{ref.agent_name} {step.text}", created=at)
    if ref.state is DownloadState.DOWNLOADED:
        _record(connection, ref, "SUCCESS", "is downloaded and Ready")
    else:
        words = f"failed: {ref.error_text}" + (f" ({ref.error_hint})" if ref.error_hint else "")
        _record(connection, ref, "FAILED", words, level="ERROR")


def _record(
    connection: sa.Connection, ref: StoreRef, what: str, text: str, *, level: str = "INFO", **columns: Any
) -> None:
    template = templates.by_id(connection, ref.template_id)
    events.record(
        connection,
        f"{'ISO' if template.is_iso else 'TEMPLATE'}.DOWNLOAD.{what}",
        f"{template.name} {text}",
        account_id=template.account_id,
        domain_id=template.domain_id,
        level=level,
        resource_type="Iso" if template.is_iso else "Template",
        resource_uuid=template.uuid,
        request_id=ref.request_id,
        **columns,
    )


def forget_files(connection: sa.Connection, ref_id: int) -> None:
    """The files of a deleted template are gone from the store."""
    templates.update_store_ref(connection, ref_id, removed=now())
