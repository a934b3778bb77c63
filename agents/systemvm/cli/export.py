# SPDX-License-Identifier: Apache-2.0
"""`systemvm template export` and `systemvm iso export`: a temporary link to an image."""

from __future__ import annotations

from urllib.parse import unquote

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.template_kind import ISO, TEMPLATE, TemplateKind


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


@click.command("export")
@click.argument("name")
@click.pass_obj
def export_template(daemon: DaemonClient, name: str) -> None:
    """Print a temporary link to the template NAME.

    A system VM serves the image. A download that breaks off can be continued.

    \b
    Example:
      systemvm template export tiny
      curl -C - -O "$(systemvm template export tiny)"
    """
    _export(daemon, TEMPLATE, name)


@click.command("export")
@click.argument("name")
@click.pass_obj
def export_iso(daemon: DaemonClient, name: str) -> None:
    """Print a temporary link to the ISO NAME.

    A system VM serves the image. A download that breaks off can be continued.

    \b
    Example:
      systemvm iso export netboot
      curl -C - -O "$(systemvm iso export netboot)"
    """
    _export(daemon, ISO, name)
