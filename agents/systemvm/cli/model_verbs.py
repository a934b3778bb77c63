# SPDX-License-Identifier: Apache-2.0
"""Makes commands of the verbs for a zone's model.

A verb is a command of the API and takes its parameters as NAME=VALUE, so that each parameter of the command
can be given. Objects are named instead of giving their ids.
"""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import EXIT_USAGE, CommandFailedError, DaemonClient
from systemvm.cli.refused_option import NamedValues
from systemvm.cli.zone_model import GROUPS, REFERENCES, TRAFFIC, Group, ModelList, SizeColumn, Verb


def groups() -> list[click.Group]:
    """Return the groups of the command line."""
    return [_group(each) for each in GROUPS]


def _group(each: Group) -> click.Group:
    example = f"systemvm {each.name} list"
    if each.verbs:
        example = f"systemvm {each.name} {each.verbs[0].name} {each.verbs[0].example}"
    group = click.Group(each.name, help=f"{each.summary}\n\n\b\nExample:\n  {example}")
    if each.listing is not None:
        group.add_command(_list_command(each.name, each.listing))
    for verb in each.verbs:
        group.add_command(_verb_command(each, verb))
    return group


def _list_command(group: str, listing: ModelList) -> click.Command:
    @click.command("list", help=f"List each {listing.noun}.\n\n\b\nExample:\n  systemvm {group} list")
    @click.pass_obj
    def list_rows(daemon: DaemonClient) -> None:
        _print_rows(daemon, daemon.records(listing.command, listing.key, **listing.parameters), listing)

    return list_rows


def _verb_command(group: Group, verb: Verb) -> click.Command:
    text = (
        f"{verb.summary}\n\nPARAMETERS are those of the API command {verb.command}, as NAME=VALUE. zone=, "
        "pod=, cluster=, network=, networkoffering= and pool= take a name instead of an id.\n\n\b\nExample:\n"
        f"  systemvm {group.name} {verb.name} {verb.example}"
    )

    def run(daemon: DaemonClient, given: tuple[str, ...], name: str = "") -> None:
        values = read_parameters(daemon, given)
        if verb.argument:
            values[verb.argument] = _value(daemon, group, verb, name)
        result = (
            daemon.run_job(verb.command, **values) if verb.is_job else daemon.call(verb.command, **values)
        )
        _print_result(daemon, result or {}, group.listing or TRAFFIC)

    arguments = [click.Argument(["name"])] if verb.argument else []
    rest = NamedValues("given", "[PARAMETERS]...", verb.argument)
    return click.Command(verb.name, callback=click.pass_obj(run), params=[*arguments, rest], help=text)


def _value(daemon: DaemonClient, group: Group, verb: Verb, name: str) -> str:
    """Return the value of a verb's argument: the id of the named object, or the name itself."""
    of_parameter = {parameter: found for found, parameter in REFERENCES.values()}
    listing = group.listing if verb.argument == "id" else of_parameter.get(verb.argument)
    if listing is None:
        return name
    return str(daemon.find(listing.command, listing.key, name, listing.noun)["id"])


def read_parameters(daemon: DaemonClient, given: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters of NAME=VALUE; a named object becomes its id.

    Raises: CommandFailedError when one is not written so, or an object is unknown.
    """
    values: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise CommandFailedError(
                f"{text!r} is not a parameter", "write it as NAME=VALUE, for example zone=zone1", EXIT_USAGE
            )
        if name in REFERENCES:
            listing, parameter = REFERENCES[name]
            values[parameter] = daemon.find(listing.command, listing.key, value, listing.noun)["id"]
        else:
            values[name] = value
    return values


def _print_rows(daemon: DaemonClient, rows: list[dict[str, Any]], listing: ModelList) -> None:
    if daemon.as_json:
        output.print_json(rows)
        return
    titles = [column.title if isinstance(column, SizeColumn) else column for column in listing.columns]
    output.print_table(
        tuple(title.upper() for title in titles),
        [tuple(_cell(row, column) for column in listing.columns) for row in rows],
        f"There is no {listing.noun}.",
    )


def _cell(row: dict[str, Any], column: str | SizeColumn) -> str:
    if isinstance(column, SizeColumn):
        size_bytes = row.get(column.key)
        return "-" if size_bytes is None else output.format_size(size_bytes) or "0 B"
    return str(row.get(column, "-"))


def _print_result(daemon: DaemonClient, result: dict[str, Any], listing: ModelList) -> None:
    """Print the id of what was made or changed, the rows of a list, or that a deletion is done."""
    found = next((value for value in result.values() if isinstance(value, (dict, list))), None)
    if isinstance(found, list):
        _print_rows(daemon, found, listing)
    elif daemon.as_json:
        output.print_json(result)
    else:
        click.echo(found["id"] if found else "Done.")
