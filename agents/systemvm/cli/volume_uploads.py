# SPDX-License-Identifier: Apache-2.0
"""`systemvm volume register` and `volume upload`: data volumes with the content of an image."""

from __future__ import annotations

import time
from typing import Any

import click
from attrs import frozen

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.upload import upload_command
from systemvm.cli.volumes import find_volume

_FORMATS = ("QCOW2", "RAW", "VHD", "VHDX", "VMDK", "OVA", "TAR")
_POLL_INTERVAL_S = 0.5


@click.command("register")
@click.argument("name")
@click.argument("url")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(_FORMATS, case_sensitive=False),
    default="QCOW2",
    show_default=True,
)
@click.option("--checksum", help="Digest of the file, hexadecimal or {SHA-256}9f86…")
@click.pass_obj
def register_volume(
    daemon: DaemonClient, name: str, url: str, image_format: str, checksum: str | None
) -> None:
    """Create the data volume NAME from the image at URL.

    A system VM downloads it. The first VM that it is attached to gets its disk; see
    "systemvm volume list" for its state.

    \b
    Example:
      systemvm volume register data https://images.example.test/data.qcow2
    """
    job = daemon.run_job(
        "uploadVolume",
        name=name,
        url=url,
        format=image_format,
        checksum=checksum,
        zoneid=daemon.zone_id(),
    )
    if daemon.as_json:
        output.print_json(job["volume"])
    else:
        click.echo(f"{name} is being downloaded: {job['volume']['id']}")


@frozen
class VolumeKind:
    """Volumes, with the names that upload commands use for them."""

    noun: str = "volume"
    command_noun: str = "Volume"

    def find(self, daemon: DaemonClient, name: str) -> dict[str, Any]:
        return find_volume(daemon, name)


def _wait_until_uploaded(daemon: DaemonClient, volume_id: str, name: str) -> dict[str, Any]:
    """Wait until the file is checked, and return the row of the volume.

    Raises: CommandFailedError when the file is refused, or the volume was deleted.
    """
    while True:
        rows = daemon.records("listVolumes", "volume", id=volume_id, listall="true")
        if not rows:
            raise CommandFailedError(f"volume of {name} was deleted before it was Uploaded")
        [row] = rows
        if row["state"] == "UploadError":
            events = daemon.records("listEvents", "event", type="VOLUME.UPLOAD", listall="true")
            why = next((each["description"] for each in events if each.get("resourceid") == volume_id), None)
            raise CommandFailedError(
                why or f"upload of {name} has failed",
                f'correct the file, and run "systemvm volume delete {volume_id}"',
            )
        if row["state"] != "NotUploaded":
            return dict(row)
        time.sleep(_POLL_INTERVAL_S)


upload_volume = upload_command(VolumeKind(), _wait_until_uploaded, "data.qcow2", "Uploaded")
