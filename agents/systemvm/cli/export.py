# SPDX-License-Identifier: Apache-2.0
"""`systemvm template export` and `systemvm iso export`: a temporary link to an image."""

from __future__ import annotations

from urllib.parse import unquote

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.template_kind import ISO, TemplateKind


def _export(daemon: DaemonClient, kind: TemplateKind, name: str) -> None:
    row = kind.find(daemon, name)
    result = daemon.run_job(
        f"extract{kind.command_noun}", id=row["id"], zoneid=row.get("zoneid"), mode="HTTP_DOWNLOAD"
    )
    link = result[kind.key]
    if daemon.as_json:
        output.print_json(link)
        return
    click.echo(unquote(link["url"]))
    click.echo(f"Anyone who has this link can download {name} until {link['expires']}.", err=True)


def export_command(kind: TemplateKind) -> click.Command:
    """Return the command of templates or of ISOs."""
    noun, example = ("ISO", "netboot") if kind is ISO else ("template", "tiny")
    group = kind.noun.lower()

    @click.pass_obj
    def export(daemon: DaemonClient, name: str) -> None:
        _export(daemon, kind, name)

    return click.Command(
        "export",
        callback=export,
        params=[click.Argument(["name"])],
        help=f"""Print a temporary link to the {noun} NAME.

A system VM serves the image. A download that breaks off can be continued.

\b
Example:
  systemvm {group} export {example}
  curl -C - -O "$(systemvm {group} export {example})"
""",
    )
