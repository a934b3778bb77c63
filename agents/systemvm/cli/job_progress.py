# SPDX-License-Identifier: Apache-2.0
"""A progress bar that follows an asynchronous job of the daemon."""

from __future__ import annotations

from typing import Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from systemvm.cli.daemon_client import DaemonClient


def run_with_progress(daemon: DaemonClient, title: str, command: str, /, **params: Any) -> dict[str, Any]:
    """Run a job and show how far it is; return its result.

    Ctrl-C leaves the job running, because the daemon and not this process owns it.

    Raises: CommandFailedError with the job's error text and hint when it failed.
    """
    if daemon.as_json:
        return daemon.run_job(command, **params)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, transient=False) as progress:
        bar = progress.add_task(title, total=100, text="")

        def show(answer: dict[str, Any]) -> None:
            progress.update(
                bar, completed=answer.get("jobprocstatus", 0), text=answer.get("jobprogresstext") or ""
            )

        result = daemon.run_job(command, show, **params)
        progress.update(bar, completed=100)
    return result
