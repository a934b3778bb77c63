# SPDX-License-Identifier: Apache-2.0
"""`systemvm setting`: settings that take effect at once."""

from __future__ import annotations

import sys
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient


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


def _read_value() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, confirmation_prompt=True))
    value = sys.stdin.readline().rstrip("\r\n")
    if not value:
        raise CommandFailedError(
            "value is missing: standard input is empty",
            "give VALUE, or write it to standard input, as one line",
        )
    return value


@setting.command("set")
@click.argument("name")
@click.argument("value", required=False)
@click.option("--zone", help="Only for this zone.")
@click.pass_obj
def set_value(daemon: DaemonClient, name: str, value: str | None, zone: str | None) -> None:
    """Set the setting NAME to VALUE.

    Without VALUE the command prompts for it. Without a terminal it reads the value from standard input. A
    secret must not be an argument, which other users of the host can see.

    \b
    Examples:
      systemvm setting set consoleproxy.session.timeout 900000
      systemvm setting set alert.smtp.password
    """
    text = _read_value() if value is None else value
    _print(daemon.call("updateConfiguration", name=name, value=text, **_of_zone(daemon, zone)))


@setting.command()
@click.argument("name")
@click.option("--zone", help="Only for this zone: to what its file says, or the value of all zones.")
@click.pass_obj
def reset(daemon: DaemonClient, name: str, zone: str | None) -> None:
    """Reset the setting NAME to what a file says, or to its default.

    \b
    Example:
      systemvm setting reset consoleproxy.session.timeout
    """
    _print(daemon.call("resetConfiguration", name=name, **_of_zone(daemon, zone)))


def _print(answer: dict[str, Any]) -> None:
    changed = answer["configuration"]
    click.echo(f"{changed['name']} is {changed['value']}.")
