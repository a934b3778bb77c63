# SPDX-License-Identifier: Apache-2.0
"""`systemvm trace`: the steps of a download or a console session, and where it failed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
from rich.text import Text

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.machines import USER_VM
from systemvm.cli.template_kind import ISO, TEMPLATE

_LEVELS = {"ERROR": "red", "WARN": "yellow"}


@click.command(
    short_help="Print the steps of a download or a console.",
    epilog="Exit codes: 0 success; 1 no event has this ID; 3 the daemon cannot be reached.",
)
@click.argument("identity", metavar="ID")
@click.pass_obj
def trace(daemon: DaemonClient, identity: str) -> None:
    """Print the steps of a download or a console session with their times, and where it failed.

    ID is one of: the name or id of a template or an ISO; the name or id of a VM (for its console sessions);
    the id of a console session; or a request id, from a log or from the response header X-Request-Id.

    \b
    Examples:
      systemvm trace tiny
      systemvm trace 3f7c1a90d2b64e58
    """
    events = _find_events(daemon, identity)
    if not events:
        raise CommandFailedError(
            f"there is no event of {identity!r}",
            "give the name or id of a template, ISO or VM, the id of a console session, or a request id",
        )
    events.reverse()  # the API returns the newest first
    if daemon.as_json:
        output.print_json(events)
        return
    start = output.local_time(events[0]["createdms"])
    output.print_table(
        ("TIME", "AFTER", "STEP", ""),
        [
            (
                output.local_time(event["createdms"]).strftime("%H:%M:%S.%f")[:-3],
                f"{(output.local_time(event['createdms']) - start).total_seconds():.1f} s",
                event["type"],
                Text(event["description"], style=_LEVELS.get(event["level"], "")),
            )
            for event in events
        ],
        "",
    )


def _list_events(daemon: DaemonClient, **scope: str) -> list[dict[str, Any]]:
    return daemon.records("listEvents", "event", **scope, page="1", pagesize="500")


def _find_events(daemon: DaemonClient, identity: str) -> list[dict[str, Any]]:
    for kind in (TEMPLATE, ISO):
        if found := [row for row in kind.rows(daemon) if identity in (row["name"], row["id"])]:
            newest = max(found, key=lambda row: datetime.fromisoformat(row["created"]))
            return _list_events(daemon, resourceid=newest["id"])
    for row in USER_VM.rows(daemon):
        if identity in (row["name"], row.get("displayname"), row["id"], row.get("instancename")):
            return _list_events(daemon, virtualmachineid=row["id"])
    found = _list_events(daemon, requestid=identity)
    try:
        return found or _list_events(daemon, resourceid=identity)
    except CommandFailedError:
        return []  # not a UUID, so not the id of a session
