# SPDX-License-Identifier: Apache-2.0
"""`systemvm alert`: what an operator must know of, and whether it reaches e-mail and webhook."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient

_TRIAL: dict[str, Any] = {
    "type": "19",
    "name": "ALERT.SERVICE.SSVM",
    "description": "trial of the ways out of alerts",
}


@click.group("alert", short_help="List alerts, and try their ways out.")
def alert() -> None:
    """List and archive alerts. Settings send each one by e-mail and to a webhook.

    \b
    Example:
      systemvm setting set alert.webhook.url https://hooks.example.test/cloud
      systemvm alert try
      systemvm alert deliveries
    """


@alert.command("list")
@click.pass_obj
def list_alerts(daemon: DaemonClient) -> None:
    """List alerts, the newest first.

    \b
    Example:
      systemvm alert list
    """
    rows = daemon.records("listAlerts", "alert")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("SENT", "NAME", "DESCRIPTION", "ID"),
        [(row["sent"], row["name"], row["description"], row["id"]) for row in rows],
        "There is no alert.",
    )


@alert.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.pass_obj
def archive(daemon: DaemonClient, ids: tuple[str, ...]) -> None:
    """Take alerts from the list. Their events stay.

    \b
    Example:
      systemvm alert archive 2f7c…
    """
    daemon.call("archiveAlerts", ids=",".join(ids))
    click.echo(f"{len(ids)} archived.")


@alert.command()
@click.pass_obj
def deliveries(daemon: DaemonClient) -> None:
    """Show the ways out that are set, and whether they work.

    \b
    Example:
      systemvm alert deliveries
    """
    rows = daemon.records("listAlertDeliveries", "alertdelivery")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "TARGET", "STATE", "WAITING", "DELIVERED", ""),
        [
            (
                row["name"], row["target"], row["state"], str(row["waiting"]), row.get("delivered", "never"),
                ": ".join(row[key] for key in ("reason", "hint") if row.get(key)),
            )
            for row in rows
        ],
        "Alerts stay in the list: neither alert.smtp.host nor alert.webhook.url is set.",
    )  # fmt: skip


@alert.command("try", short_help="Make an alert, to try the ways out.")
@click.pass_obj
def try_ways(daemon: DaemonClient) -> None:
    """Make an alert, which goes by each way out that is set within a minute.

    \b
    Example:
      systemvm alert try
    """
    if not daemon.records("listAlertDeliveries", "alertdelivery"):
        raise CommandFailedError(
            "there is no way out to try",
            'set one, for example by "systemvm setting set alert.webhook.url URL"',
        )
    daemon.run_job("generateAlert", **_TRIAL)
    click.echo('The alert is made. "systemvm alert deliveries" shows whether it is delivered.')
