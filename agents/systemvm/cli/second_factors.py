# SPDX-License-Identifier: Apache-2.0
"""`systemvm user two-factor`: who has a second factor, and taking it from who lost the telephone."""

from __future__ import annotations

import click

from systemvm.cli import output
from systemvm.cli.accounts import find_user
from systemvm.cli.daemon_client import DaemonClient


@click.group("two-factor", short_help="Show and disable second factors of users.")
def two_factor() -> None:
    """Show and disable second factors of users. Users set them up on the page, or by the API.

    \b
    Example:
      systemvm setting set enable.user.2fa true
      systemvm user two-factor list
    """


@two_factor.command("list")
@click.pass_obj
def list_factors(daemon: DaemonClient) -> None:
    """List which users have a second factor, and who must have one.

    \b
    Example:
      systemvm user two-factor list
    """
    rows = daemon.records("listUsers", "user", listall="true")
    if daemon.as_json:
        kept = ("id", "username", "account", "domain", "is2faenabled", "is2famandated")
        output.print_json([{key: row[key] for key in kept} for row in rows])
        return
    words = {True: "yes", False: "no"}
    output.print_table(
        ("USERNAME", "ACCOUNT", "SET UP", "MANDATED"),
        [
            (row["username"], row["account"], words[row["is2faenabled"]], words[row["is2famandated"]])
            for row in rows
        ],
        "There is no user.",
    )


@two_factor.command()
@click.argument("username")
@click.confirmation_option(prompt="The user will log in with the password only. Continue?")
@click.pass_obj
def disable(daemon: DaemonClient, username: str) -> None:
    """Disable the second factor of USERNAME, for example because the telephone is lost.

    \b
    Example:
      systemvm user two-factor disable bob
    """
    user = find_user(daemon, username)
    daemon.call("setupUserTwoFactorAuthentication", enable="false", userid=user["id"])
    click.echo(f"user {username} has no second factor.")
