# SPDX-License-Identifier: Apache-2.0
"""`systemvm account` and `systemvm user`: manage who can use the cloud."""

from __future__ import annotations

import sys
from typing import Any

import click

from systemvm.cli import domains, output
from systemvm.cli.account_usage import account_usage
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient

_OF_ALL_ACCOUNTS = {"listall": "true"}


def _find_account(daemon: DaemonClient, name: str) -> dict[str, Any]:
    return daemon.find("listAccounts", "account", name, "account")


def find_user(daemon: DaemonClient, name: str) -> dict[str, Any]:
    """Return a user by user name or id."""
    rows = daemon.records("listUsers", "user", **_OF_ALL_ACCOUNTS)
    found = [row for row in rows if name in (row["username"], row["id"])]
    if len(found) > 1:  # user names are unique within a domain
        raise CommandFailedError(
            f"name is ambiguous: {len(found)} users are named {name!r}",
            f"give one of these ids: {', '.join(row['id'] for row in found)}",
        )
    if found:
        return found[0]
    known = ", ".join(row["username"] for row in rows) or "none"
    raise CommandFailedError(f"there is no user named {name!r}", f"choose one of these users: {known}")


def _read_new_password() -> str:
    """Read a password from the terminal or standard input; never from an argument, which `ps` shows."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandFailedError(
            "password is missing: standard input is empty",
            "write the password to standard input, as one line",
        )
    return password


def _print_result(daemon: DaemonClient, row: dict[str, Any], text: str) -> None:
    output.print_json(row) if daemon.as_json else click.echo(text)


@click.group(short_help="Manage accounts.")
def account() -> None:
    """Manage accounts. An account owns machines and templates; its users log in.

    \b
    Example:
      systemvm account create ann --email ann@example.test
    """


account.add_command(account_usage)


@account.command("list")
@click.pass_obj
def list_accounts(daemon: DaemonClient) -> None:
    """List accounts, their users and what they own.

    \b
    Example:
      systemvm account list
    """
    rows = daemon.records("listAccounts", "account", **_OF_ALL_ACCOUNTS)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "DOMAIN", "ROLE", "STATE", "USERS", "MACHINES", "TEMPLATES", "ID"),
        [
            (
                row["name"],
                row["domainpath"],
                row["rolename"],
                row["state"],
                ", ".join(user["username"] for user in row["user"]),
                row["vmtotal"],
                row["templatetotal"],
                row["id"],
            )
            for row in rows
        ],
        "There is no account.",
    )


@account.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="Make its users root administrators.")
@click.option("--domain-admin", is_flag=True, help="Make its users administrators of its domain.")
@click.option("--domain", "domain_path", help="Path of its domain. Default: the root domain.")
@click.option("--username", help="Name of its first user. Default: NAME.")
@click.option("--email", default="", help="Email address of that user.")
@click.option("--first-name", default="", help="First name of that user. Default: the user name.")
@click.option("--last-name", default="", help="Last name of that user. Default: NAME.")
@click.pass_obj
def create_account(
    daemon: DaemonClient,
    name: str,
    admin: bool,
    domain_admin: bool,
    domain_path: str | None,
    username: str | None,
    email: str,
    first_name: str,
    last_name: str,
) -> None:
    """Create the account NAME and its first user.

    The command prompts for the user's password. Without a terminal it reads the password from standard input.

    \b
    Examples:
      systemvm account create ann
      systemvm account create ops --admin --username bob < password.txt
      systemvm account create dora --domain sales --domain-admin
    """
    if admin and (domain_admin or domain_path is not None):
        raise CommandFailedError(
            "--admin excludes --domain and --domain-admin", "root administrators are in the root domain"
        )
    user = username or name
    where = {} if domain_path is None else {"domainid": domains.find_domain(daemon, domain_path)["id"]}
    row = daemon.call(
        "createAccount",
        account=name,
        accounttype="1" if admin else "2" if domain_admin else "0",
        username=user,
        password=_read_new_password(),
        email=email or f"{user}@localhost",
        firstname=first_name or user,
        lastname=last_name or name,
        **where,
    )["account"]
    _print_result(daemon, row, f"account {name} is created; {user} can log in.")


@account.command("disable")
@click.argument("name")
@click.option("--lock", is_flag=True, help="Keep the account's machines running.")
@click.pass_obj
def disable_account(daemon: DaemonClient, name: str, lock: bool) -> None:
    """Disable the account NAME and stop its machines.

    Its logins, API keys and consoles end at once. With --lock its machines keep running.

    \b
    Example:
      systemvm account disable ann --lock
    """
    daemon.run_job("disableAccount", id=_find_account(daemon, name)["id"], lock=str(lock).lower())
    click.echo(f"account {name} is {'locked' if lock else 'disabled'}.")


@account.command("enable")
@click.argument("name")
@click.pass_obj
def enable_account(daemon: DaemonClient, name: str) -> None:
    """Enable the account NAME: its users can log in again.

    Stopped machines stay stopped.

    \b
    Example:
      systemvm account enable ann
    """
    daemon.call("enableAccount", id=_find_account(daemon, name)["id"])
    click.echo(f"account {name} is enabled.")


@account.command("delete")
@click.argument("name")
@click.confirmation_option(
    prompt="This deletes the account's users, machines and templates permanently. Continue?"
)
@click.pass_obj
def delete_account(daemon: DaemonClient, name: str) -> None:
    """Delete the account NAME and all that it owns.

    Its users, machines and templates are deleted permanently.

    \b
    Example:
      systemvm account delete ann
    """
    daemon.run_job("deleteAccount", id=_find_account(daemon, name)["id"])
    click.echo(f"account {name} is deleted.")


@click.group(short_help="Manage users and their API keys.")
def user() -> None:
    """Manage users. A user belongs to one account, logs in with a password and can have an API key.

    \b
    Examples:
      systemvm user create bob --account ann
      systemvm user keys bob
    """


@user.command("list")
@click.pass_obj
def list_users(daemon: DaemonClient) -> None:
    """List the users of all accounts.

    \b
    Example:
      systemvm user list
    """
    rows = daemon.records("listUsers", "user", **_OF_ALL_ACCOUNTS)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("USERNAME", "ACCOUNT", "ROLE", "STATE", "EMAIL", "ID"),
        [
            (row["username"], row["account"], row["rolename"], row["state"], row["email"], row["id"])
            for row in rows
        ],
        "There is no user.",
    )


@user.command("create")
@click.argument("username")
@click.option("--account", "account_name", required=True, help="Name or id of the user's account.")
@click.option("--email", default="", help="Email address.")
@click.option("--first-name", default="", help="First name. Default: USERNAME.")
@click.option("--last-name", default="", help="Last name. Default: the account's name.")
@click.pass_obj
def create_user(
    daemon: DaemonClient, username: str, account_name: str, email: str, first_name: str, last_name: str
) -> None:
    """Create the user USERNAME in an account.

    The command prompts for the password. Without a terminal it reads the password from standard input.

    \b
    Example:
      systemvm user create bob --account ann --email bob@example.test
    """
    owner = _find_account(daemon, account_name)
    row = daemon.call(
        "createUser",
        account=owner["name"],
        domainid=owner["domainid"],
        username=username,
        password=_read_new_password(),
        email=email or f"{username}@localhost",
        firstname=first_name or username,
        lastname=last_name or owner["name"],
    )["user"]
    _print_result(daemon, row, f"user {username} of account {owner['name']} is created.")


@user.command("password")
@click.argument("username")
@click.pass_obj
def set_password(daemon: DaemonClient, username: str) -> None:
    """Set a new password for USERNAME.

    Logins that used the old one end. The command prompts for the password. Without a terminal it reads the
    password from standard input.

    \b
    Example:
      systemvm user password bob
    """
    found = find_user(daemon, username)
    daemon.call("updateUser", id=found["id"], password=_read_new_password())
    click.echo(f"user {username} has a new password.")


@user.command("keys")
@click.argument("username")
@click.option("--rotate", is_flag=True, help="Create a new key pair; the old one ends at once.")
@click.pass_obj
def keys(daemon: DaemonClient, username: str, rotate: bool) -> None:
    """Print the API key and the secret key of USERNAME.

    \b
    Example: create the first key pair of a user
      systemvm user keys --rotate bob
    """
    command = "registerUserKeys" if rotate else "getUserKeys"
    row = daemon.call(command, id=find_user(daemon, username)["id"]).get("userkeys") or {}
    if daemon.as_json:
        output.print_json(row)
    elif not row:
        raise CommandFailedError(
            f"user {username} has no API key", f'run "systemvm user keys --rotate {username}" to create one'
        )
    else:
        click.echo(f"API key     {row['apikey']}\nsecret key  {row['secretkey']}")


@user.command("disable")
@click.argument("username")
@click.option("--lock", is_flag=True, help="Show the user as locked.")
@click.pass_obj
def disable_user(daemon: DaemonClient, username: str, lock: bool) -> None:
    """Disable the user USERNAME.

    The user's logins, API keys and consoles end at once. Other users of the account are not affected.

    \b
    Example:
      systemvm user disable bob
    """
    found = find_user(daemon, username)["id"]
    if lock:
        daemon.call("lockUser", id=found)
    else:
        daemon.run_job("disableUser", id=found)
    click.echo(f"user {username} is {'locked' if lock else 'disabled'}.")


@user.command("enable")
@click.argument("username")
@click.pass_obj
def enable_user(daemon: DaemonClient, username: str) -> None:
    """Enable the user USERNAME, who can log in again.

    \b
    Example:
      systemvm user enable bob
    """
    daemon.call("enableUser", id=find_user(daemon, username)["id"])
    click.echo(f"user {username} is enabled.")


@user.command("delete")
@click.argument("username")
@click.confirmation_option(prompt="The user will not be able to log in any more. Continue?")
@click.pass_obj
def delete_user(daemon: DaemonClient, username: str) -> None:
    """Delete the user USERNAME. The account and its machines stay.

    \b
    Example:
      systemvm user delete bob
    """
    daemon.call("deleteUser", id=find_user(daemon, username)["id"])
    click.echo(f"user {username} is deleted.")
