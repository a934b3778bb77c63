# SPDX-License-Identifier: Apache-2.0
"""Templates made from snapshots and volumes, and temporary links to both."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.job_progress import run_with_progress
from systemvm.cli.volumes import find_volume


def find_snapshot(daemon: DaemonClient, name: str) -> dict[str, Any]:
    """Return a snapshot by its name or id; a copy in another zone, which has the same name, by its id."""
    rows = daemon.records("listSnapshots", "snapshot", listall="true")
    return daemon.choose([row for row in rows if "copyof" not in row or row["id"] == name], name, "snapshot")


@click.command("create")
@click.argument("name")
@click.option("--snapshot", help="Make it from this snapshot.")
@click.option("--volume", help="Make it from this volume, whose VM must be stopped.")
@click.option("--public", is_flag=True, help="Let other accounts use it.")
@click.pass_obj
def create_template(
    daemon: DaemonClient, name: str, snapshot: str | None, volume: str | None, public: bool
) -> None:
    """Create the template NAME from a snapshot or from a volume.

    A secondary storage VM makes one standalone image of it.

    \b
    Example:
      systemvm template create golden --snapshot before-update
    """
    if (snapshot is None) == (volume is None):
        raise click.UsageError("give either --snapshot or --volume")
    source = (
        {"snapshotid": find_snapshot(daemon, snapshot)["id"]}
        if snapshot is not None
        else {"volumeid": find_volume(daemon, volume or "")["id"]}
    )
    row = run_with_progress(
        daemon, f"Template {name}", "createTemplate", name=name, ispublic="true" if public else None, **source
    )["template"]
    if daemon.as_json:
        output.print_json(row)
    else:
        click.echo(f"{name} is Ready: {row['id']}")


@click.command("export")
@click.argument("name")
@click.pass_obj
def export_snapshot(daemon: DaemonClient, name: str) -> None:
    """Print a temporary link to the snapshot NAME.

    It leads to one standalone image.

    \b
    Example:
      systemvm snapshot export before-update
    """
    row = find_snapshot(daemon, name)
    _print_link(daemon, name, daemon.run_job("extractSnapshot", id=row["id"])["snapshot"])


@click.command("export")
@click.argument("name")
@click.pass_obj
def export_volume(daemon: DaemonClient, name: str) -> None:
    """Print a temporary link to the volume NAME.

    It leads to what the volume contains now; its VM must be stopped.

    \b
    Example:
      systemvm volume export ROOT-3
    """
    row = find_volume(daemon, name)
    _print_link(daemon, name, daemon.run_job("extractVolume", id=row["id"], mode="HTTP_DOWNLOAD")["volume"])


def _print_link(daemon: DaemonClient, name: str, link: dict[str, Any]) -> None:
    if daemon.as_json:
        output.print_json(link)
        return
    click.echo(unquote(link["url"]))
    click.echo(f"Anyone who has this link can download {name} until {link['expires']}.", err=True)
