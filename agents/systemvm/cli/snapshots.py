# SPDX-License-Identifier: Apache-2.0
"""`systemvm snapshot`: snapshots of volumes."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.job_progress import run_with_progress
from systemvm.cli.snapshot_images import export_snapshot, find_snapshot
from systemvm.cli.snapshot_policies import policy
from systemvm.cli.volumes import find_volume

_LISTED = {"listall": "true"}


@click.group()
def snapshot() -> None:
    """Manage snapshots of volumes.

    \b
    Example:
      systemvm snapshot create ROOT-3
    """


@snapshot.command("list")
@click.option("--volume", help="Only those of this volume.")
@click.pass_obj
def list_snapshots(daemon: DaemonClient, volume: str | None) -> None:
    """List snapshots, with the bytes that each one moved to its store.

    \b
    Example:
      systemvm snapshot list --volume ROOT-3
    """
    volume_id = find_volume(daemon, volume)["id"] if volume else None
    rows = daemon.records("listSnapshots", "snapshot", volumeid=volume_id, **_LISTED)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "VOLUME", "ZONE", "STATE", "MOVED", "KIND", "ID"),
        [
            (
                row["name"],
                row["volumename"],
                row.get("zonename"),
                output.coloured_state(row["state"]),
                output.format_size(row.get("physicalsize")),
                _kind(row),
                row["id"],
            )
            for row in rows
        ],
        'There is no snapshot yet. Run "systemvm snapshot create VOLUME" to take one.',
        {row["name"]: output.with_hint(row["reason"], row.get("hint")) for row in rows if row.get("reason")},
    )


@snapshot.command()
@click.argument("volume")
@click.option("--name", help="Its name. Default: that of the volume with the time.")
@click.option("--quiesce", is_flag=True, help="Have the VM's guest agent hold its file systems still.")
@click.pass_obj
def create(daemon: DaemonClient, volume: str, name: str | None, quiesce: bool) -> None:
    """Take a snapshot of VOLUME, whose VM can run.

    It has what a power cut at that moment would leave on the disk, or with --quiesce complete file systems.
    The first one of a volume is whole, later ones have what changed since.

    \b
    Example:
      systemvm snapshot create ROOT-3 --name before-update
    """
    found = find_volume(daemon, volume)
    row = run_with_progress(
        daemon,
        f"Snapshot of {volume}",
        "createSnapshot",
        volumeid=found["id"],
        name=name,
        quiescevm="true" if quiesce else None,
    )["snapshot"]
    if daemon.as_json:
        output.print_json(row)
    else:
        moved = output.format_size(row["physicalsize"])
        kind = "an increment" if row.get("parentid") else "whole"
        click.echo(f"{row['name']} is BackedUp: {kind}, {moved} moved.")


@snapshot.command()
@click.argument("name")
@click.confirmation_option(prompt="This replaces the content of the volume. Continue?")
@click.pass_obj
def revert(daemon: DaemonClient, name: str) -> None:
    """Bring a volume back to its snapshot NAME.

    The VM of the volume must be stopped.

    \b
    Example:
      systemvm snapshot revert before-update
    """
    row = find_snapshot(daemon, name)
    run_with_progress(daemon, f"Revert to {name}", "revertSnapshot", id=row["id"])
    click.echo(f"{row['volumename']} has the content of {name} again.")


@snapshot.command()
@click.argument("name")
@click.argument("volume")
@click.option("--size", type=int, help="Size in GiB. Default: that of the snapshot.")
@click.pass_obj
def restore(daemon: DaemonClient, name: str, volume: str, size: int | None) -> None:
    """Create the data volume VOLUME from the snapshot NAME.

    \b
    Example:
      systemvm snapshot restore before-update old-root
    """
    row = find_snapshot(daemon, name)
    run_with_progress(
        daemon,
        f"Volume {volume}",
        "createVolume",
        name=volume,
        snapshotid=row["id"],
        size=size,
        zoneid=row.get("zoneid"),
    )
    click.echo(f"{volume} is Ready.")


@snapshot.command()
@click.argument("name")
@click.argument("zones", nargs=-1, required=True)
@click.pass_obj
def copy(daemon: DaemonClient, name: str, zones: tuple[str, ...]) -> None:
    """Copy the snapshot NAME to other ZONES.

    A copy needs neither the snapshot nor its zone. Use it by its id.

    \b
    Example:
      systemvm snapshot copy before-update zone2
    """
    row = find_snapshot(daemon, name)
    ids = [daemon.find("listZones", "zone", zone, "zone")["id"] for zone in zones]
    copied = run_with_progress(daemon, f"Copy of {name}", "copySnapshot", id=row["id"], destzoneids=ids)
    if daemon.as_json:
        output.print_json(copied["snapshot"])
    else:
        click.echo(f"{name} is in {', '.join(zones)}.")


@snapshot.command()
@click.argument("name")
@click.confirmation_option(prompt="This deletes the snapshot permanently. Continue?")
@click.pass_obj
def delete(daemon: DaemonClient, name: str) -> None:
    """Delete the snapshot NAME and its copies. Increments on it stay complete.

    \b
    Example:
      systemvm snapshot delete before-update
    """
    daemon.run_job("deleteSnapshot", id=find_snapshot(daemon, name)["id"])
    click.echo(f"{name} is deleted.")


def _kind(row: dict[str, Any]) -> str:
    if row.get("copyof"):
        return "copy"
    return "increment" if row.get("parentid") else "whole"


snapshot.add_command(policy)
snapshot.add_command(export_snapshot)
