# SPDX-License-Identifier: Apache-2.0
"""`systemvm domain`: the tree of domains that accounts are in."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient

_ROOT = "ROOT"


def find_domain(daemon: DaemonClient, path: str) -> dict[str, Any]:
    """Return a domain by its path, with or without ROOT before it, or by its id."""
    rows = daemon.records("listDomains", "domain")
    wanted = f"{_ROOT}/{_beneath_root(path)}".rstrip("/")
    for row in rows:
        if path == row["id"] or wanted == row["path"]:
            return row
    known = ", ".join(row["path"] for row in rows)
    raise CommandFailedError(f"there is no domain {path!r}", f"choose one of these: {known}")


@click.group(short_help="Manage domains.")
def domain() -> None:
    """Manage domains. A domain has accounts, and domain administrators manage it with all beneath it.

    PATH is, for example, sales/north.

    \b
    Examples:
      systemvm domain create sales
      systemvm account create dora --domain sales --domain-admin
    """


@domain.command("list")
@click.pass_obj
def list_domains(daemon: DaemonClient) -> None:
    """List all domains.

    \b
    Example:
      systemvm domain list
    """
    rows = daemon.records("listDomains", "domain")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("PATH", "ID"),
        [(row["path"], row["id"]) for row in sorted(rows, key=lambda row: str(row["path"]))],
        "There is no domain.",
    )


@domain.command("create")
@click.argument("path")
@click.pass_obj
def create_domain(daemon: DaemonClient, path: str) -> None:
    """Create the domain PATH. The domains above it must exist.

    \b
    Example:
      systemvm domain create sales/north
    """
    above, _, name = _beneath_root(path).rpartition("/")
    parent = find_domain(daemon, above)["id"]
    row = daemon.call("createDomain", name=name, parentdomainid=parent)["domain"]
    _print_result(daemon, row, f"domain {row['path']} is created.")


@domain.command("rename")
@click.argument("path")
@click.argument("name")
@click.pass_obj
def rename_domain(daemon: DaemonClient, path: str, name: str) -> None:
    """Give the domain PATH the name NAME. Its users log in with the new path from then on.

    \b
    Example:
      systemvm domain rename sales/north northern
    """
    row = daemon.call("updateDomain", id=find_domain(daemon, path)["id"], name=name)["domain"]
    _print_result(daemon, row, f"domain {path} is now {row['path']}.")


@domain.command("delete")
@click.argument("path")
@click.option(
    "--cleanup", is_flag=True, help="Delete its accounts with all they own, and the domains beneath."
)
@click.confirmation_option(prompt="The domain is deleted permanently. Continue?")
@click.pass_obj
def delete_domain(daemon: DaemonClient, path: str, cleanup: bool) -> None:
    """Delete the domain PATH. Without --cleanup it must be empty.

    \b
    Example:
      systemvm domain delete sales/north
    """
    found = find_domain(daemon, path)
    daemon.run_job("deleteDomain", id=found["id"], cleanup=str(cleanup).lower())
    click.echo(f"domain {path} is deleted.")


def _beneath_root(path: str) -> str:
    """Return a path without the root's name."""
    bare = path.strip("/")
    first, _, rest = bare.partition("/")
    return rest if first.upper() == _ROOT else bare


def _print_result(daemon: DaemonClient, row: dict[str, Any], text: str) -> None:
    output.print_json(row) if daemon.as_json else click.echo(text)
