# SPDX-License-Identifier: Apache-2.0
"""`systemvm snapshot policy`: snapshots of volumes that are taken by a schedule."""

from __future__ import annotations

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.volumes import find_volume

_LISTED = {"listall": "true"}
_INTERVALS = ("hourly", "daily", "weekly", "monthly")  # by the API's numbers


@click.group()
def policy() -> None:
    """Manage policies, which take snapshots of volumes by a schedule.

    \b
    Example:
      systemvm snapshot policy set ROOT-3 daily 30:02 --keep 7
    """


@policy.command("list")
@click.pass_obj
def list_policies(daemon: DaemonClient) -> None:
    """List policies, and when each takes its next snapshot.

    \b
    Example:
      systemvm snapshot policy list
    """
    rows = daemon.records("listSnapshotPolicies", "snapshotpolicy", **_LISTED)
    if daemon.as_json:
        output.print_json(rows)
        return
    names = {row["id"]: row["name"] for row in daemon.records("listVolumes", "volume", **_LISTED)}
    output.print_table(
        ("VOLUME", "INTERVAL", "SCHEDULE", "TIME ZONE", "KEPT", "NEXT"),
        [
            (
                names.get(row["volumeid"], row["volumeid"]),
                _INTERVALS[row["intervaltype"]],
                row["schedule"],
                row["timezone"],
                str(row["maxsnaps"]),
                row.get("nextrun"),
            )
            for row in rows
        ],
        'There is no policy yet. Run "systemvm snapshot policy set --help" to see how to create one.',
    )


@policy.command("set")
@click.argument("volume")
@click.argument("interval", type=click.Choice(_INTERVALS))
@click.argument("schedule")
@click.option("--keep", type=int, required=True, help="How many snapshots are kept; older ones are deleted.")
@click.option("--timezone", default="UTC", show_default=True, help="Time zone of the schedule.")
@click.pass_obj
def set_policy(
    daemon: DaemonClient, volume: str, interval: str, schedule: str, keep: int, timezone: str
) -> None:
    """Have snapshots of VOLUME taken at every INTERVAL.

    SCHEDULE is MM for hourly, MM:HH for daily, MM:HH:D for weekly with 1 for Sunday, and MM:HH:DD for
    monthly. A volume has one policy of each interval: this command replaces it.

    \b
    Example:
      systemvm snapshot policy set ROOT-3 daily 30:02 --keep 7 --timezone Europe/Berlin
    """
    row = daemon.call(
        "createSnapshotPolicy",
        volumeid=find_volume(daemon, volume)["id"],
        intervaltype=interval,
        schedule=schedule,
        timezone=timezone,
        maxsnaps=keep,
    )["snapshotpolicy"]
    if daemon.as_json:
        output.print_json(row)
    else:
        click.echo(f"{volume} has a {interval} policy. Its next snapshot is due at {row['nextrun']}.")


@policy.command()
@click.argument("volume")
@click.argument("interval", type=click.Choice(_INTERVALS))
@click.pass_obj
def delete(daemon: DaemonClient, volume: str, interval: str) -> None:
    """Delete the policy of VOLUME for INTERVAL. The snapshots that it has taken stay.

    \b
    Example:
      systemvm snapshot policy delete ROOT-3 daily
    """
    volume_id = find_volume(daemon, volume)["id"]
    rows = daemon.records("listSnapshotPolicies", "snapshotpolicy", volumeid=volume_id, **_LISTED)
    found = [row["id"] for row in rows if _INTERVALS[row["intervaltype"]] == interval]
    if not found:
        raise click.UsageError(f"{volume} has no {interval} policy")
    daemon.call("deleteSnapshotPolicies", ids=",".join(found))
    click.echo(f"{volume} has no {interval} policy any more.")
