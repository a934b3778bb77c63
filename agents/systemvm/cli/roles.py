# SPDX-License-Identifier: Apache-2.0
"""`systemvm role`: which commands an account's users can call."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient


def find_role(daemon: DaemonClient, name: str) -> dict[str, Any]:
    return daemon.find("listRoles", "role", name, "role")


@click.group(short_help="Manage roles.")
def role() -> None:
    """Manage roles. A role has rules: the first one that matches a command allows or denies it.

    A command that no rule matches is denied. A role permits nothing that is not for its type.

    \b
    Examples:
      systemvm role create "no deletions" --copy User
      systemvm role deny "no deletions" "delete*"
      systemvm account role ann "no deletions"
    """


@role.command("list")
@click.pass_obj
def list_roles(daemon: DaemonClient) -> None:
    """List roles.

    \b
    Example:
      systemvm role list
    """
    rows = daemon.records("listRoles", "role")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "TYPE", "DEFAULT", "ID"),
        [(row["name"], row["type"], "yes" if row["isdefault"] else "no", row["id"]) for row in rows],
        "There is no role.",
    )


@role.command("create")
@click.argument("name")
@click.option(
    "--type", "kind", type=click.Choice(["Admin", "DomainAdmin", "User"]), help="Type of its accounts."
)
@click.option("--copy", "source", metavar="ROLE", help="Give it the type and the rules of ROLE.")
@click.option("--description", help="What it is for.")
@click.pass_obj
def create_role(
    daemon: DaemonClient, name: str, kind: str | None, source: str | None, description: str | None
) -> None:
    """Create the role NAME: without rules, or with those of another one.

    \b
    Example:
      systemvm role create "read only" --type User
    """
    if (kind is None) == (source is None):
        raise CommandFailedError("a role needs its type or another role", "give one of --type and --copy")
    values = {"type": kind} if source is None else {"roleid": find_role(daemon, source)["id"]}
    if description is not None:
        values["description"] = description
    row = daemon.call("createRole", name=name, **values)["role"]
    output.print_json(row) if daemon.as_json else click.echo(f"role {name} is created.")


@role.command("delete")
@click.argument("name")
@click.pass_obj
def delete_role(daemon: DaemonClient, name: str) -> None:
    """Delete the role NAME, which no account has.

    \b
    Example:
      systemvm role delete "read only"
    """
    daemon.call("deleteRole", id=find_role(daemon, name)["id"])
    click.echo(f"role {name} is deleted.")


@role.command("rules")
@click.argument("name")
@click.pass_obj
def list_rules(daemon: DaemonClient, name: str) -> None:
    """List the rules of the role NAME, in their order.

    \b
    Example:
      systemvm role rules User
    """
    rows = _rules(daemon, find_role(daemon, name)["id"])
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("RULE", "PERMISSION", "DESCRIPTION"),
        [(row["rule"], row["permission"], row.get("description", "")) for row in rows],
        f"Role {name} has no rules: it permits nothing.",
    )


@role.command("allow")
@click.argument("name")
@click.argument("rule")
@click.pass_obj
def allow(daemon: DaemonClient, name: str, rule: str) -> None:
    """Have the role NAME allow what RULE matches, before its other rules.

    \b
    Example:
      systemvm role allow "read only" "list*"
    """
    _put_first(daemon, name, rule, "allow")


@role.command("deny")
@click.argument("name")
@click.argument("rule")
@click.pass_obj
def deny(daemon: DaemonClient, name: str, rule: str) -> None:
    """Have the role NAME deny what RULE matches, before its other rules.

    \b
    Example:
      systemvm role deny "no deletions" "delete*"
    """
    _put_first(daemon, name, rule, "deny")


@role.command("forget")
@click.argument("name")
@click.argument("rule")
@click.pass_obj
def forget(daemon: DaemonClient, name: str, rule: str) -> None:
    """Delete RULE of the role NAME.

    \b
    Example:
      systemvm role forget "read only" "list*"
    """
    daemon.call("deleteRolePermission", id=_rule(_rules(daemon, find_role(daemon, name)["id"]), rule)["id"])
    click.echo(f"role {name} has no rule {rule} any more.")


@click.command("role")
@click.argument("name")
@click.argument("role_name", metavar="ROLE")
@click.pass_obj
def set_role(daemon: DaemonClient, name: str, role_name: str) -> None:
    """Give the account NAME the role ROLE.

    The role must be of the account's type. It holds from the next call of its users on.

    \b
    Example:
      systemvm account role ann "read only"
    """
    account = daemon.find("listAccounts", "account", name, "account")
    daemon.call("updateAccount", id=account["id"], roleid=find_role(daemon, role_name)["id"])
    click.echo(f"account {name} has the role {role_name}.")


def _rules(daemon: DaemonClient, role_id: str) -> list[dict[str, Any]]:
    return daemon.records("listRolePermissions", "rolepermission", roleid=role_id)


def _rule(rows: list[dict[str, Any]], rule: str) -> dict[str, Any]:
    for row in rows:
        if row["rule"].lower() == rule.lower():
            return row
    known = ", ".join(row["rule"] for row in rows) or "none"
    raise CommandFailedError(f"role has no rule {rule!r}", f"choose one of these: {known}")


def _put_first(daemon: DaemonClient, name: str, rule: str, permission: str) -> None:
    """Add or change a rule, and put it before the others: what was asked for last holds."""
    role_id = find_role(daemon, name)["id"]
    rows = _rules(daemon, role_id)
    present = [row for row in rows if row["rule"].lower() == rule.lower()]
    if present:
        first = present[0]["id"]
        daemon.call("updateRolePermission", roleid=role_id, ruleid=first, permission=permission)
    else:
        made = daemon.call("createRolePermission", roleid=role_id, rule=rule, permission=permission)
        first = made["rolepermission"]["id"]
    others = [row["id"] for row in rows if row["id"] != first]
    if others:
        daemon.call("updateRolePermission", roleid=role_id, ruleorder=",".join([first, *others]))
    verb = "allows" if permission == "allow" else "denies"
    click.echo(f"role {name} {verb} {rule}.")
