# SPDX-License-Identifier: Apache-2.0
"""`systemvm account limit`: how much secondary storage an account can use."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient

#: CloudStack's number of secondary storage.
SECONDARY_STORAGE = "11"


@click.command("limit")
@click.argument("name")
@click.option("--secondary-storage-gib", type=click.IntRange(0), help="GiB in each zone.")
@click.option("--unlimited", is_flag=True, help="No limit, whatever the zone's file says.")
@click.option("--default", "use_default", is_flag=True, help="The limit of the zone's file.")
@click.pass_obj
def limit_account(
    daemon: DaemonClient,
    name: str,
    secondary_storage_gib: int | None,
    unlimited: bool,
    use_default: bool,
) -> None:
    """Limit the secondary storage of the account NAME, or show its limit.

    Templates and ISOs count once, on however many stores they are. Administrators have no limit.

    \b
    Example:
      systemvm account limit ann --secondary-storage-gib 200
    """
    if [secondary_storage_gib is not None, unlimited, use_default].count(True) > 1:
        raise CommandFailedError("more than one limit is given", "give one of the options")
    found = daemon.find("listAccounts", "account", name, "account", listall="true")
    which: dict[str, Any] = {"account": found["name"], "domainid": found["domainid"]}
    if secondary_storage_gib is None and not unlimited and not use_default:
        rows = daemon.records("listResourceLimits", "resourcelimit", resourcetype=SECONDARY_STORAGE, **which)
        _print(daemon, rows[0])
        return
    wanted: dict[str, Any] = {"max": str(-1 if unlimited else secondary_storage_gib)}
    if use_default:
        wanted = {"usedefault": "true"}
    answer = daemon.call("updateResourceLimit", resourcetype=SECONDARY_STORAGE, **which, **wanted)
    _print(daemon, answer["resourcelimit"])


def _print(daemon: DaemonClient, row: dict[str, Any]) -> None:
    if daemon.as_json:
        output.print_json(row)
        return
    limit = "no limit of secondary storage" if row["max"] < 0 else f"{row['max']} GiB of secondary storage"
    whose = ", by the zone's file" if row["isdefault"] else ""
    click.echo(f"{row['account']} has {limit}{whose}.")
