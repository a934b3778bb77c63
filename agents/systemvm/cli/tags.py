# SPDX-License-Identifier: Apache-2.0
"""`systemvm tag`: keys and values of objects."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import EXIT_USAGE, CommandFailedError, DaemonClient
from systemvm.cli.object_kinds import KINDS

_TAGGED = {name: kind for name, kind in KINDS.items() if kind.resource_type}
_BY_TYPE = {kind.resource_type: name for name, kind in _TAGGED.items()}
_KIND = click.Choice(tuple(_TAGGED))


@click.group(short_help="Give objects keys and values, by which lists find them.")
def tag() -> None:
    """Give objects keys and values, by which lists find them.

    \b
    Examples:
      systemvm tag add vm web env=production team=shop
      systemvm tag list --key env --value production
    """


@tag.command("list")
@click.argument("kind", type=_KIND, required=False)
@click.argument("name", required=False)
@click.option("--key", help="Only tags with this key.")
@click.option("--value", help="Only tags with this value.")
@click.pass_obj
def list_tags(
    daemon: DaemonClient, kind: str | None, name: str | None, key: str | None, value: str | None
) -> None:
    """List tags.

    Those of all objects, of a KIND, or of the object NAME.

    \b
    Example:
      systemvm tag list vm web
    """
    which = {"listall": "true", "key": key, "value": value}
    if kind is not None:
        which["resourcetype"] = KINDS[kind].resource_type
        if name is not None:
            which["resourceid"] = KINDS[kind].find_id(daemon, name, kind)
    given = {parameter: text for parameter, text in which.items() if text is not None}
    rows = daemon.records("listTags", "tag", **given)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("KIND", "OBJECT", "KEY", "VALUE", "ACCOUNT"),
        [
            (_BY_TYPE[row["resourcetype"]], row["resourceid"], row["key"], row["value"], row["account"])
            for row in rows
        ],
        "There is no such tag.",
    )


@tag.command("add")
@click.argument("kind", type=_KIND)
@click.argument("name")
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.pass_obj
def add_tags(daemon: DaemonClient, kind: str, name: str, tags: tuple[str, ...]) -> None:
    """Give an object tags.

    \b
    Example:
      systemvm tag add volume data-7 backup=daily
    """
    for text in tags:
        if "=" not in text[1:]:
            raise CommandFailedError(
                f"tag {text!r} is not KEY=VALUE", "write, for example, env=production", EXIT_USAGE
            )
    _change(daemon, "createTags", kind, name, tags)
    click.echo(f"{kind} {name} is tagged: {', '.join(tags)}.")


@tag.command("delete")
@click.argument("kind", type=_KIND)
@click.argument("name")
@click.argument("tags", nargs=-1, metavar="[KEY|KEY=VALUE]...")
@click.pass_obj
def delete_tags(daemon: DaemonClient, kind: str, name: str, tags: tuple[str, ...]) -> None:
    """Take tags from an object.

    Those that are named, or all.

    \b
    Example:
      systemvm tag delete vm web env
    """
    _change(daemon, "deleteTags", kind, name, tags)
    click.echo(f"{kind} {name} has lost {', '.join(tags) if tags else 'its tags'}.")


def _change(daemon: DaemonClient, command: str, kind: str, name: str, tags: tuple[str, ...]) -> None:
    found = KINDS[kind]
    values: dict[str, Any] = {
        "resourceids": found.find_id(daemon, name, kind),
        "resourcetype": found.resource_type,
    }
    for number, text in enumerate(tags):
        key, separator, value = text.partition("=")
        values[f"tags[{number}].key"] = key
        if separator:
            values[f"tags[{number}].value"] = value
    daemon.run_job(command, **values)
