# SPDX-License-Identifier: Apache-2.0
"""`systemvm user key`: further API keys of a user, with an end and a scope."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.accounts import find_user
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient


@click.group("key", short_help="Manage further API keys of a user.")
def key() -> None:
    """Manage further API keys of a user, each with a name, and if you want with an end and a scope.

    \b
    Example:
      systemvm user key create bob backup --expires 2027-12-31 --allow "list*" --allow createSnapshot
    """


@key.command("list")
@click.argument("username")
@click.pass_obj
def list_keys(daemon: DaemonClient, username: str) -> None:
    """List the further API keys of USERNAME.

    \b
    Example:
      systemvm user key list bob
    """
    rows = _keys(daemon, username)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "EXPIRES", "COMMANDS", "API KEY"),
        [
            (row["name"], row.get("enddate", "never"), ", ".join(row.get("rules", ["all"])), row["apikey"])
            for row in rows
        ],
        f"User {username} has no further API keys.",
    )


@key.command("create")
@click.argument("username")
@click.argument("name")
@click.option("--expires", metavar="DATE", help="Last day, for example 2027-12-31. Default: never.")
@click.option("--allow", "rules", multiple=True, metavar="RULE", help="Commands, as in list*. Default: all.")
@click.pass_obj
def create_key(
    daemon: DaemonClient, username: str, name: str, expires: str | None, rules: tuple[str, ...]
) -> None:
    """Create the API key NAME of USERNAME and print its secret key, which nothing shows again.

    \b
    Example:
      systemvm user key create bob monitoring --allow "list*"
    """
    values: dict[str, Any] = {} if expires is None else {"enddate": expires}
    if rules:
        values["rules"] = ",".join(rules)
    row = daemon.call("createUserKey", userid=find_user(daemon, username)["id"], name=name, **values)[
        "userkey"
    ]
    if daemon.as_json:
        output.print_json(row)
    else:
        click.echo(f"API key     {row['apikey']}\nsecret key  {row['secretkey']}")


@key.command("delete")
@click.argument("username")
@click.argument("name")
@click.pass_obj
def delete_key(daemon: DaemonClient, username: str, name: str) -> None:
    """Delete the API key NAME of USERNAME. It ends at once.

    \b
    Example:
      systemvm user key delete bob monitoring
    """
    rows = _keys(daemon, username)
    found = [row for row in rows if row["name"] == name]
    if not found:
        known = ", ".join(row["name"] for row in rows) or "none"
        raise CommandFailedError(f"user {username} has no API key {name!r}", f"choose one of these: {known}")
    daemon.call("deleteUserKey", id=found[0]["id"])
    click.echo(f"API key {name} of user {username} is deleted.")


def _keys(daemon: DaemonClient, username: str) -> list[dict[str, Any]]:
    return daemon.records("listUserKeys", "userkey", userid=find_user(daemon, username)["id"])
