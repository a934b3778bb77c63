# SPDX-License-Identifier: Apache-2.0
"""`systemvm store keys`: other keys for a bucket that is an image store."""

from __future__ import annotations

from typing import TextIO

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient


@click.command("keys", short_help="Replace the keys of a bucket.")
@click.argument("name")
@click.option("--access-key", envvar="S3_ACCESS_KEY", required=True, help="The new access key.")
@click.option(
    "--secret-key-file", type=click.File(), required=True, help="File with its secret key; - is the input."
)
@click.option("--region", help="Region of the bucket, when that changes, too.")
@click.option("--ca", type=click.File(), help="Certificates that its endpoint is verified with from now on.")
@click.pass_obj
def replace_keys(
    daemon: DaemonClient,
    name: str,
    access_key: str,
    secret_key_file: TextIO,
    region: str | None,
    ca: TextIO | None,
) -> None:
    """Replace the keys of the image store NAME, which is a bucket.

    Every SSVM of the zone that is Up lists, writes and deletes with the new keys first; when the server
    refuses that, the present keys stay. Revoke the old ones at the server once transfers that run have ended.

    \b
    Example:
      systemvm store keys bucket --access-key ID --secret-key-file key
    """
    given = {
        "accesskey": access_key,
        "secretkey": secret_key_file.read().strip(),
        "region": region,
        "cacertificate": None if ca is None else ca.read(),
    }
    row = daemon.find("listImageStores", "imagestore", name, "image store")
    details = {key: value for key, value in given.items() if value is not None}
    answer = daemon.call("updateImageStore", timeout_s=300.0, id=row["id"], details=details)
    changed = answer["imagestore"]
    output.print_json(changed) if daemon.as_json else click.echo(f"{changed['name']} has other keys.")
