# SPDX-License-Identifier: Apache-2.0
"""`systemvm trace`: how a download or a console came about, step by step, and where it failed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
from rich.text import Text

from systemvm.cli import output
from systemvm.cli.daemon_client import Daemon, Failed
from systemvm.cli.machines import MACHINE
from systemvm.cli.templates import ISO, TEMPLATE

_LEVELS = {"ERROR": "red", "WARN": "yellow"}


@click.command(epilog="Exit code: 0; 1 nothing is known of ID; 3 no daemon answers.")
@click.argument("identity", metavar="ID")
@click.pass_obj
def trace(daemon: Daemon, identity: str) -> None:
    """Show each step of a download or a console with its time, and where it failed.

    ID is a template or an ISO (name or id), a machine (its consoles), a console session, or the request id
    that a log or an `X-Request-Id` header shows.

    \b
    systemvm trace tiny
    systemvm trace 9f0c…          # a request id
    """
    events = _events(daemon, identity)
    if not events:
        raise Failed(
            f"nothing is known of {identity!r}",
            "Give a template, ISO or machine by name or id, a console session, or a request id.",
        )
    events.reverse()  # the API has the newest first
    if daemon.as_json:
        output.as_json(events)
        return
    began = output.moment(events[0]["createdms"])
    output.table(
        ("TIME", "AFTER", "STEP", ""),
        [
            (
                output.moment(event["createdms"]).strftime("%H:%M:%S.%f")[:-3],
                f"{(output.moment(event['createdms']) - began).total_seconds():.1f} s",
                event["type"],
                Text(event["description"], style=_LEVELS.get(event["level"], "")),
            )
            for event in events
        ],
        "",
    )


def _listed(daemon: Daemon, **of: str) -> list[dict[str, Any]]:
    return daemon.records("listEvents", "event", **of, page="1", pagesize="500")


def _events(daemon: Daemon, identity: str) -> list[dict[str, Any]]:
    for kind in (TEMPLATE, ISO):
        if found := [row for row in kind.rows(daemon) if identity in (row["name"], row["id"])]:
            newest = max(found, key=lambda row: datetime.fromisoformat(row["created"]))
            return _listed(daemon, resourceid=newest["id"])
    for row in MACHINE.rows(daemon):
        if identity in (row["name"], row.get("displayname"), row["id"], row.get("instancename")):
            return _listed(daemon, virtualmachineid=row["id"])
    found = _listed(daemon, requestid=identity)
    try:
        return found or _listed(daemon, resourceid=identity)
    except Failed:
        return []  # no UUID, and so no session's id
