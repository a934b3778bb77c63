# SPDX-License-Identifier: Apache-2.0
"""`systemvm account limit` and `account limits`: how much an account can have, and how much it has."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient

SECONDARY_STORAGE = "secondary_storage"
#: CloudStack's kinds of resources: number, unit of limits, and what is limited.
KINDS = {
    "user_vm": ("0", "", "VMs"),
    "volume": ("2", "", "volumes"),
    "snapshot": ("3", "", "snapshots"),
    "template": ("4", "", "templates and ISOs"),
    "network": ("6", "", "isolated and L2 networks"),
    "cpu": ("8", "", "CPUs"),
    "memory": ("9", "MiB", "memory"),
    "primary_storage": ("10", "GiB", "primary storage"),
    SECONDARY_STORAGE: ("11", "GiB", "secondary storage"),
}
_GIB = 1 << 30


@click.command("limit")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(list(KINDS)), help=f"What is limited. Default: {SECONDARY_STORAGE}."
)
@click.option("--max", "most", type=click.IntRange(0), help="How many, MiB of memory or GiB of storage.")
@click.option("--secondary-storage-gib", type=click.IntRange(0), help="GiB in each zone.")
@click.option("--unlimited", is_flag=True, help="No limit, whatever the default is.")
@click.option(
    "--default", "use_default", is_flag=True, help="The default: that of the zone's file or setting."
)
@click.pass_obj
def limit_account(
    daemon: DaemonClient,
    name: str,
    kind: str | None,
    most: int | None,
    secondary_storage_gib: int | None,
    unlimited: bool,
    use_default: bool,
) -> None:
    """Limit what the account NAME can have, or show its limit.

    Templates and ISOs count once, on however many stores they are. Administrators have no limit.

    \b
    Examples:
      systemvm account limit ann --secondary-storage-gib 200
      systemvm account limit ann --kind user_vm --max 10
    """
    if [secondary_storage_gib is not None, most is not None, unlimited, use_default].count(True) > 1:
        raise CommandFailedError("more than one limit is given", "give one of the options")
    if secondary_storage_gib is not None and kind not in (None, SECONDARY_STORAGE):
        raise CommandFailedError(
            f"--secondary-storage-gib is not a limit of {kind}", "give --kind and --max together"
        )
    kind = kind or SECONDARY_STORAGE
    which = _owner(daemon, name) | {"resourcetype": KINDS[kind][0]}
    amount = most if secondary_storage_gib is None else secondary_storage_gib
    if amount is None and not unlimited and not use_default:
        _print(daemon, daemon.records("listResourceLimits", "resourcelimit", **which)[0], kind)
        return
    wanted: dict[str, Any] = {"max": str(-1 if unlimited else amount)}
    if use_default:
        wanted = {"usedefault": "true"}
    answer = daemon.call("updateResourceLimit", **which, **wanted)
    _print(daemon, answer["resourcelimit"], kind)


@click.command("limits")
@click.argument("name")
@click.pass_obj
def list_limits(daemon: DaemonClient, name: str) -> None:
    """List all limits of the account NAME, and how much of each it has.

    \b
    Example:
      systemvm account limits ann
    """
    which = _owner(daemon, name)
    rows = daemon.records("listResourceLimits", "resourcelimit", **which)
    counts = {
        row["resourcetype"]: row["resourcecount"]
        for row in daemon.records("updateResourceCount", "resourcecount", **which)
    }
    found = [row | {"resourcecount": counts[row["resourcetype"]]} for row in rows]
    if daemon.as_json:
        output.print_json(found)
        return
    output.print_table(
        ("KIND", "HAS", "LIMIT", "DEFAULT"),
        [
            (
                row["resourcetypename"],
                _has(row["resourcetypename"], row["resourcecount"]),
                _limit(row["resourcetypename"], row["max"]),
                "yes" if row["isdefault"] else "no",
            )
            for row in found
        ],
        "Nothing is limited.",
    )


def _owner(daemon: DaemonClient, name: str) -> dict[str, Any]:
    found = daemon.find("listAccounts", "account", name, "account", listall="true")
    return {"account": found["name"], "domainid": found["domainid"]}


def _unit(kind: str) -> str:
    return KINDS[kind][1] if kind in KINDS else ""


def _limit(kind: str, most: int) -> str:
    return "none" if most < 0 else f"{most} {_unit(kind)}".strip()


def _has(kind: str, count: int) -> str:
    unit = _unit(kind)
    return f"{count / _GIB:.1f} GiB" if unit == "GiB" else f"{count} {unit}".strip()


def _print(daemon: DaemonClient, row: dict[str, Any], kind: str) -> None:
    if daemon.as_json:
        output.print_json(row)
        return
    what = KINDS[kind][2]
    if row["max"] < 0:
        limit = f"no limit of {what}"
    elif _unit(kind):
        limit = f"{row['max']} {_unit(kind)} of {what}"
    else:
        limit = f"at most {row['max']} {what}"
    default = "by the zone's file" if kind == SECONDARY_STORAGE else "by the default"
    click.echo(f"{row['account']} has {limit}{', ' + default if row['isdefault'] else ''}.")
