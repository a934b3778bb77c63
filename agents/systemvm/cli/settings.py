# SPDX-License-Identifier: Apache-2.0
"""`systemvm setting`: settings that take effect at once."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient


@click.group(short_help="List and change settings, which take effect at once.")
def setting() -> None:
    """List and change settings, which take effect at once.

    \b
    Example:
      systemvm setting set consoleproxy.session.max 100
    """


def _of_zone(daemon: DaemonClient, zone: str | None) -> dict[str, Any]:
    return {} if zone is None else {"zoneid": daemon.find("listZones", "zone", zone, "zone")["id"]}


@setting.command("list")
@click.option("--zone", help="Show the values that hold for this zone.")
@click.pass_obj
def list_settings(daemon: DaemonClient, zone: str | None) -> None:
    """List settings and their values.

    \b
    Example:
      systemvm setting list
    """
    rows = daemon.records("listConfigurations", "configuration", **_of_zone(daemon, zone))
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "VALUE", "DEFAULT", ""),
        [(row["name"], row["value"], row["defaultvalue"], row["description"]) for row in rows],
        "There are no settings.",
    )


@setting.command("set")
@click.argument("name")
@click.argument("value")
@click.option("--zone", help="Only for this zone.")
@click.pass_obj
def set_value(daemon: DaemonClient, name: str, value: str, zone: str | None) -> None:
    """Set the setting NAME to VALUE.

    \b
    Example:
      systemvm setting set consoleproxy.session.timeout 900000
    """
    _print(daemon.call("updateConfiguration", name=name, value=value, **_of_zone(daemon, zone)))


@setting.command()
@click.argument("name")
@click.option("--zone", help="Only for this zone, which then has the value of all zones.")
@click.pass_obj
def reset(daemon: DaemonClient, name: str, zone: str | None) -> None:
    """Reset the setting NAME to its default.

    \b
    Example:
      systemvm setting reset consoleproxy.session.timeout
    """
    _print(daemon.call("resetConfiguration", name=name, **_of_zone(daemon, zone)))


def _print(answer: dict[str, Any]) -> None:
    changed = answer["configuration"]
    click.echo(f"{changed['name']} is {changed['value']}.")
