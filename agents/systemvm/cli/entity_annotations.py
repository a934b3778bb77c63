# SPDX-License-Identifier: Apache-2.0
"""`systemvm annotation`: texts about objects."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.object_kinds import KINDS

_BY_TYPE = {kind.entity_type: name for name, kind in KINDS.items()}
_KIND = click.Choice(tuple(KINDS))


@click.group(short_help="Write down what others should know about an object.")
def annotation() -> None:
    """Write down what others should know about a VM, a host or any other object.

    \b
    Examples:
      systemvm annotation add vm web "moves on Friday"
      systemvm annotation add host kvm1 "disk 2 is slow" --admins-only
      systemvm annotation list vm web
    """


@annotation.command("list")
@click.argument("kind", type=_KIND, required=False)
@click.argument("name", required=False)
@click.pass_obj
def list_annotations(daemon: DaemonClient, kind: str | None, name: str | None) -> None:
    """List texts about objects, the newest first.

    Those about all objects, about those of a KIND, or about the object NAME.

    \b
    Example:
      systemvm annotation list host kvm1
    """
    which: dict[str, Any] = {}
    if kind is not None:
        which["entitytype"] = KINDS[kind].entity_type
        if name is not None:
            which["entityid"] = KINDS[kind].find_id(daemon, name, kind)
    rows = daemon.records("listAnnotations", "annotation", **which)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("OBJECT", "TEXT", "BY", "WRITTEN", "FOR", "ID"),
        [
            (
                f"{_BY_TYPE[row['entitytype']]} {row.get('entityname', row['entityid'])}",
                row["annotation"],
                row["username"],
                row["created"],
                "administrators" if row["adminsonly"] else "all",
                row["id"],
            )
            for row in rows
        ],
        "There is no annotation.",
    )


@annotation.command("add")
@click.argument("kind", type=_KIND)
@click.argument("name")
@click.argument("text")
@click.option("--admins-only", is_flag=True, help="Hide it from the object's owner.")
@click.pass_obj
def add_annotation(daemon: DaemonClient, kind: str, name: str, text: str, admins_only: bool) -> None:
    """Write TEXT about the object NAME of this KIND.

    \b
    Example:
      systemvm annotation add volume data-7 "holds the invoices: ask Ada before you delete it"
    """
    found = KINDS[kind]
    added = daemon.call(
        "addAnnotation",
        annotation=text,
        entitytype=found.entity_type,
        entityid=found.find_id(daemon, name, kind),
        adminsonly=str(admins_only).lower(),
    )["annotation"]
    output.print_json(added) if daemon.as_json else click.echo(f"{kind} {name} is annotated: {added['id']}.")


@annotation.command("remove")
@click.argument("annotation_id", metavar="ID")
@click.pass_obj
def remove_annotation(daemon: DaemonClient, annotation_id: str) -> None:
    """Remove a text about an object.

    `systemvm annotation list` shows its ID.

    \b
    Example:
      systemvm annotation remove 0a3c7c1e-8d0f-4e3b-9a55-9a1f7a3c2b10
    """
    removed = daemon.call("removeAnnotation", id=annotation_id)["annotation"]
    output.print_json(removed) if daemon.as_json else click.echo(f"annotation {annotation_id} is removed.")
