# SPDX-License-Identifier: Apache-2.0
"""`systemvm volume`: data volumes and the root disks of VMs."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.machines import USER_VM

_LISTED = {"listall": "true"}


def find_volume(daemon: DaemonClient, name: str) -> dict[str, Any]:
    """Return the volume with this name or id."""
    return daemon.find("listVolumes", "volume", name, "volume", **_LISTED)


@click.group()
def volume() -> None:
    """Manage volumes: the root disks of VMs, and data volumes.

    \b
    Example:
      systemvm volume create data --size 20
    """


@volume.command("list")
@click.pass_obj
def list_volumes(daemon: DaemonClient) -> None:
    """List volumes and the VMs that have them.

    \b
    Example:
      systemvm volume list
    """
    rows = daemon.records("listVolumes", "volume", **_LISTED)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "TYPE", "STATE", "SIZE", "VM", "ID"),
        [
            (
                row["name"],
                row["type"],
                output.coloured_state(row["state"]),
                output.format_size(row.get("size")),
                row.get("vmdisplayname"),
                row["id"],
            )
            for row in rows
        ],
        'There is no volume yet. Run "systemvm volume create NAME --size GIB" to create one.',
    )


@volume.command()
@click.argument("name")
@click.option("--size", type=int, help="Size in GiB.")
@click.option("--offering", help="Name or id of a disk offering, which sets the size.")
@click.option("--pool", help="Storage pool. Default: the host's own directory.")
@click.pass_obj
def create(daemon: DaemonClient, name: str, size: int | None, offering: str | None, pool: str | None) -> None:
    """Create the empty data volume NAME.

    \b
    Example:
      systemvm volume create data --size 20
    """
    if size is None and offering is None:
        raise click.UsageError("give --size or --offering")
    chosen = None
    if offering is not None:
        chosen = daemon.find("listDiskOfferings", "diskoffering", offering, "disk offering")["id"]
    found = daemon.find("listStoragePools", "storagepool", pool, "storage pool") if pool else {}
    row = daemon.run_job(
        "createVolume",
        name=name,
        size=size,
        diskofferingid=chosen,
        zoneid=daemon.zone_id(),
        storageid=found.get("id"),
    )["volume"]
    if daemon.as_json:
        output.print_json(row)
    else:
        click.echo(f'{name} is Ready. Run "systemvm volume attach {name} VM" to give it to a VM.')


@volume.command()
@click.argument("name")
@click.argument("vm")
@click.option("--device", type=int, help="Device number: 1 to 15, but not 3. Default: the first free one.")
@click.pass_obj
def attach(daemon: DaemonClient, name: str, vm: str, device: int | None) -> None:
    """Attach the volume NAME to the VM VM, which sees it at once.

    In the guest it is a SCSI disk whose serial number is the beginning of the volume's id.

    \b
    Example:
      systemvm volume attach data one
    """
    machine = USER_VM.find(daemon, vm)
    found = find_volume(daemon, name)
    result = daemon.run_job("attachVolume", id=found["id"], virtualmachineid=machine["id"], deviceid=device)
    click.echo(f"{name} is attached to {vm} as device {result['volume']['deviceid']}.")


@volume.command()
@click.argument("name")
@click.pass_obj
def detach(daemon: DaemonClient, name: str) -> None:
    """Detach the volume NAME from its VM. Unmount it in the guest first.

    \b
    Example:
      systemvm volume detach data
    """
    daemon.run_job("detachVolume", id=find_volume(daemon, name)["id"])
    click.echo(f"{name} is detached.")


@volume.command()
@click.argument("name")
@click.option("--size", type=int, required=True, help="New size in GiB: a volume cannot become smaller.")
@click.pass_obj
def resize(daemon: DaemonClient, name: str, size: int) -> None:
    """Enlarge the volume NAME; a VM that runs sees the new size at once.

    \b
    Example:
      systemvm volume resize data --size 40
    """
    daemon.run_job("resizeVolume", id=find_volume(daemon, name)["id"], size=size)
    click.echo(f"{name} has {size} GiB.")


@volume.command()
@click.argument("name")
@click.argument("pool")
@click.pass_obj
def migrate(daemon: DaemonClient, name: str, pool: str) -> None:
    """Move the volume NAME to the storage pool POOL. Its VM must be stopped.

    \b
    Example:
      systemvm volume migrate data shared1
    """
    target = daemon.find("listStoragePools", "storagepool", pool, "storage pool")
    daemon.run_job("migrateVolume", volumeid=find_volume(daemon, name)["id"], storageid=target["id"])
    click.echo(f"{name} is in {pool}.")


@volume.command()
@click.argument("name")
@click.confirmation_option(prompt="This deletes the volume and its data permanently. Continue?")
@click.pass_obj
def delete(daemon: DaemonClient, name: str) -> None:
    """Delete the data volume NAME, which no VM has, permanently.

    \b
    Example:
      systemvm volume delete data
    """
    daemon.call("deleteVolume", id=find_volume(daemon, name)["id"])
    click.echo(f"{name} is deleted.")
