# SPDX-License-Identifier: Apache-2.0
"""`systemvm account` and `systemvm user`: who may use the cloud."""

from __future__ import annotations

import sys
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import Daemon, Failed

_EVERYBODY = {"listall": "true"}


def _account(daemon: Daemon, name: str) -> dict[str, Any]:
    return daemon.find("listAccounts", "account", name, "account")


def _user(daemon: Daemon, name: str) -> dict[str, Any]:
    """By user name or id."""
    rows = daemon.records("listUsers", "user", **_EVERYBODY)
    for row in rows:
        if name in (row["username"], row["id"]):
            return row
    known = ", ".join(row["username"] for row in rows) or "none"
    raise Failed(f"no user is called {name!r}", f"There is: {known}")


def _new_password() -> str:
    """Asked for twice on a terminal, else a line of standard input: never an argument, which `ps` shows."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise Failed("no password was given", "Write it to standard input, as one line.")
    return password


def _made(daemon: Daemon, row: dict[str, Any], text: str) -> None:
    output.as_json(row) if daemon.as_json else click.echo(text)


@click.group()
def account() -> None:
    """Accounts, which own machines and templates. Each has users, who log in."""


@account.command("list")
@click.pass_obj
def list_accounts(daemon: Daemon) -> None:
    """Accounts with their users and what they have."""
    rows = daemon.records("listAccounts", "account", **_EVERYBODY)
    if daemon.as_json:
        output.as_json(rows)
        return
    output.table(
        ("NAME", "ROLE", "STATE", "USERS", "MACHINES", "TEMPLATES", "ID"),
        [
            (
                row["name"],
                row["rolename"],
                row["state"],
                ", ".join(user["username"] for user in row["user"]),
                row["vmtotal"],
                row["templatetotal"],
                row["id"],
            )
            for row in rows
        ],
        "No account.",
    )


@account.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="A root administrator's: may do everything.")
@click.option("--username", help="Name of its first user; the account's without it.")
@click.option("--email", default="", help="Mail address of that user.")
@click.option("--first-name", default="", help="First name of that user; the user name without it.")
@click.option("--last-name", default="", help="Last name of that user; the account's name without it.")
@click.pass_obj
def create_account(
    daemon: Daemon,
    name: str,
    admin: bool,
    username: str | None,
    email: str,
    first_name: str,
    last_name: str,
) -> None:
    """Make an account with its first user. The password is asked for, or read from standard input."""
    user = username or name
    row = daemon.call(
        "createAccount",
        account=name,
        accounttype="1" if admin else "0",
        username=user,
        password=_new_password(),
        email=email or f"{user}@localhost",
        firstname=first_name or user,
        lastname=last_name or name,
    )["account"]
    _made(daemon, row, f"account {name} is created; {user} can log in.")


@account.command("disable")
@click.argument("name")
@click.option("--lock", is_flag=True, help="Keep its machines running.")
@click.pass_obj
def disable_account(daemon: Daemon, name: str, lock: bool) -> None:
    """End an account's logins, keys and consoles, and stop its machines."""
    daemon.job("disableAccount", id=_account(daemon, name)["id"], lock=str(lock).lower())
    click.echo(f"account {name} is {'locked' if lock else 'disabled'}.")


@account.command("enable")
@click.argument("name")
@click.pass_obj
def enable_account(daemon: Daemon, name: str) -> None:
    """Let an account in again; its machines stay as they are."""
    daemon.call("enableAccount", id=_account(daemon, name)["id"])
    click.echo(f"account {name} is enabled.")


@account.command("delete")
@click.argument("name")
@click.confirmation_option(prompt="Its users, machines and templates are deleted, for good. Go on?")
@click.pass_obj
def delete_account(daemon: Daemon, name: str) -> None:
    """Delete an account with all that it has."""
    daemon.job("deleteAccount", id=_account(daemon, name)["id"])
    click.echo(f"account {name} is deleted.")


@click.group()
def user() -> None:
    """Users, who log in and have API keys; each is of one account."""


@user.command("list")
@click.pass_obj
def list_users(daemon: Daemon) -> None:
    """Users of all accounts."""
    rows = daemon.records("listUsers", "user", **_EVERYBODY)
    if daemon.as_json:
        output.as_json(rows)
        return
    output.table(
        ("USERNAME", "ACCOUNT", "ROLE", "STATE", "EMAIL", "ID"),
        [
            (row["username"], row["account"], row["rolename"], row["state"], row["email"], row["id"])
            for row in rows
        ],
        "No user.",
    )


@user.command("create")
@click.argument("username")
@click.option("--account", "account_name", required=True, help="The account that the user is of.")
@click.option("--email", default="", help="Mail address.")
@click.option("--first-name", default="", help="First name; the user name without it.")
@click.option("--last-name", default="", help="Last name; the account's name without it.")
@click.pass_obj
def create_user(
    daemon: Daemon, username: str, account_name: str, email: str, first_name: str, last_name: str
) -> None:
    """Make a user of an account. The password is asked for, or read from standard input."""
    row = daemon.call(
        "createUser",
        account=account_name,
        username=username,
        password=_new_password(),
        email=email or f"{username}@localhost",
        firstname=first_name or username,
        lastname=last_name or account_name,
    )["user"]
    _made(daemon, row, f"user {username} of account {account_name} is created.")


@user.command("password")
@click.argument("username")
@click.pass_obj
def set_password(daemon: Daemon, username: str) -> None:
    """Give a user a new password, asked for or read from standard input; logins by the old one end."""
    found = _user(daemon, username)
    daemon.call("updateUser", id=found["id"], password=_new_password())
    click.echo(f"user {username} has a new password.")


@user.command("keys")
@click.argument("username")
@click.option("--rotate", is_flag=True, help="Make new ones; the present ones end at once.")
@click.pass_obj
def keys(daemon: Daemon, username: str, rotate: bool) -> None:
    """Show a user's API key and secret."""
    command = "registerUserKeys" if rotate else "getUserKeys"
    row = daemon.call(command, id=_user(daemon, username)["id"]).get("userkeys") or {}
    if daemon.as_json:
        output.as_json(row)
    elif not row:
        raise Failed(f"{username} has no API key", f"`systemvm user keys --rotate {username}` makes one.")
    else:
        click.echo(f"API key     {row['apikey']}\nsecret key  {row['secretkey']}")


@user.command("disable")
@click.argument("username")
@click.pass_obj
def disable_user(daemon: Daemon, username: str) -> None:
    """End a user's logins, keys and consoles; the account goes on."""
    daemon.job("disableUser", id=_user(daemon, username)["id"])
    click.echo(f"user {username} is disabled.")


@user.command("enable")
@click.argument("username")
@click.pass_obj
def enable_user(daemon: Daemon, username: str) -> None:
    """Let a user in again."""
    daemon.call("enableUser", id=_user(daemon, username)["id"])
    click.echo(f"user {username} is enabled.")


@user.command("delete")
@click.argument("username")
@click.confirmation_option(prompt="The user cannot log in any more. Go on?")
@click.pass_obj
def delete_user(daemon: Daemon, username: str) -> None:
    """Delete a user; the account and what it has stay."""
    daemon.call("deleteUser", id=_user(daemon, username)["id"])
    click.echo(f"user {username} is deleted.")
