# SPDX-License-Identifier: Apache-2.0
"""`systemvm store staging`: NFS stores for copies of templates in buckets, which hosts read there."""

from __future__ import annotations

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient


@click.group("staging", short_help="Manage stores for copies of what is in buckets.")
def staging() -> None:
    """Manage staging stores: NFS exports with copies of templates in buckets.

    A host, and an SSVM that serves links, can only read files. Without such a store any NFS store of the zone
    takes the copies. When it is full, those that were not used for the longest time are deleted.

    \b
    Example:
      systemvm store staging add cache nfs://10.12.0.3/export/cache --host-path /export/cache
    """


@staging.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--zone", help="Name of its zone. Default: the only zone.")
@click.option("--nfs-version", help="Version of NFS: 3, 4.0, 4.1 or 4.2.  [default: 4.2]")
@click.option("--mount-options", help="Further options of nfs(5), such as nconnect=4. NFS 3 has nolock.")
@click.option("--host-path", help="Directory where this host reads the same files. VMs need it.")
@click.pass_obj
def add_staging(
    daemon: DaemonClient,
    name: str,
    url: str,
    zone: str | None,
    nfs_version: str | None,
    mount_options: str | None,
    host_path: str | None,
) -> None:
    """Add the NFS export at URL as the staging store NAME.

    \b
    Example:
      systemvm store staging add cache nfs://10.12.0.3/export/cache --host-path /export/cache
    """
    zone_id = daemon.find("listZones", "zone", zone, "zone")["id"] if zone else None
    given = {"nfs.version": nfs_version, "nfsmountopts": mount_options, "host.path": host_path}
    details = {key: value for key, value in given.items() if value is not None}
    answer = daemon.call(
        "createSecondaryStagingStore", timeout_s=300.0, name=name, url=url, zoneid=zone_id,
        details=details or None,
    )  # fmt: skip
    row = answer["secondarystorage"]
    output.print_json(row) if daemon.as_json else click.echo(row["id"])


@staging.command("list")
@click.pass_obj
def list_staging(daemon: DaemonClient) -> None:
    """List staging stores.

    \b
    Example:
      systemvm store staging list
    """
    rows = daemon.records("listSecondaryStagingStores", "imagestore")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "ZONE", "URL", "SIZE", "USED", "ID"),
        [
            (
                row["name"],
                row["zonename"],
                row["url"],
                output.format_size(row.get("disksizetotal")),
                output.format_size(row.get("disksizeused")),
                row["id"],
            )
            for row in rows
        ],
        'There is no staging store. Run "systemvm store staging add NAME URL" to add one.',
    )


@staging.command("delete")
@click.argument("name")
@click.pass_obj
def delete_staging(daemon: DaemonClient, name: str) -> None:
    """Delete the staging store NAME.

    Its copies are made again on another store when a host needs them. Its directory stays.

    \b
    Example:
      systemvm store staging delete cache
    """
    row = daemon.find("listSecondaryStagingStores", "imagestore", name, "staging store")
    daemon.call("deleteSecondaryStagingStore", timeout_s=300.0, id=row["id"])
    click.echo(f"{name} is deleted.")
