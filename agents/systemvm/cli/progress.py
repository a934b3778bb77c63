# SPDX-License-Identifier: Apache-2.0
"""A progress bar that follows the download of a template or an ISO."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.template_kind import TemplateKind
from systemvm.wire.storage import DownloadState

_POLL_INTERVAL_S = 0.5
_FAILED = (DownloadState.DOWNLOAD_ERROR.value, "UPLOAD_ERROR")


def wait_until_ready(daemon: DaemonClient, kind: TemplateKind, template_id: str, name: str) -> dict[str, Any]:
    """Show a progress bar until the template is Ready, and return its row.

    Ctrl-C leaves the download running, because the daemon and not this process owns it.

    Raises: CommandFailedError when the download failed, or the template was deleted.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, transient=False) as progress:
        bar = progress.add_task(name, total=None, status="waiting for a secondary storage VM")
        while True:
            rows = kind.rows(daemon, id=template_id)
            if not rows:
                raise CommandFailedError(f"{kind.noun} {name} was deleted before it was Ready")
            row = rows[0]
            failed = _has_failed(row)
            # While a download waits, its hint is what it waits for.
            status = row["status"] if failed or row["isready"] else row.get("hint") or row["status"]
            received_bytes, total_bytes = _received(row)
            progress.update(bar, completed=received_bytes, total=total_bytes, status=status)
            if row["isready"]:
                return row
            if failed:
                retry = f'run "systemvm {kind.noun.lower()} retry {name}" to download it again'
                raise CommandFailedError(row["status"], row.get("hint") or retry)
            time.sleep(_POLL_INTERVAL_S)


def _has_failed(row: dict[str, Any]) -> bool:
    return any(detail["downloadState"] in _FAILED for detail in _details(row))


def _received(row: dict[str, Any]) -> tuple[int, int | None]:
    """Return the bytes that the furthest copy has received, and those that it will have, if known."""
    received = [(int(each.get("receivedbytes") or 0), each.get("totalbytes")) for each in _details(row)]
    received_bytes, total_bytes = max(received, key=lambda each: each[0], default=(0, None))
    if row["isready"]:
        return received_bytes, received_bytes
    return received_bytes, total_bytes


def _details(row: dict[str, Any]) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = row.get("downloaddetails") or []
    return details
