# SPDX-License-Identifier: Apache-2.0
"""`systemvm template` and `systemvm iso`: register a URL and watch it become Ready."""

from __future__ import annotations

import time
from typing import Any

import click
from attrs import frozen
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from systemvm.cli import output
from systemvm.cli.daemon_client import Daemon, Failed


@frozen
class Kind:
    """What differs between templates and ISOs in CloudStack's commands."""

    noun: str
    register: str
    listing: str
    delete: str
    retry: str
    key: str
    filter_name: str

    def rows(self, daemon: Daemon, **params: Any) -> list[dict[str, Any]]:
        return daemon.records(self.listing, self.key, **{self.filter_name: "all"}, **params)


TEMPLATE = Kind(
    "template",
    "registerTemplate",
    "listTemplates",
    "deleteTemplate",
    "retryTemplate",
    "template",
    "templatefilter",
)
ISO = Kind("ISO", "registerIso", "listIsos", "deleteIso", "retryIso", "iso", "isofilter")


def _moving(row: dict[str, Any]) -> bool:
    return not row["isready"] and ("%" in row["status"] or row["status"].startswith("Installing"))


def _percent(row: dict[str, Any]) -> int:
    status = row["status"]
    if row["isready"] or status.startswith("Installing"):
        return 100
    head = status.partition("%")[0]
    return int(head) if head.isdigit() else 0


def follow(daemon: Daemon, kind: Kind, template_id: str, name: str) -> dict[str, Any]:
    """Show a progress bar until the template is Ready; Failed with its error text otherwise.

    Ctrl-C leaves the download running: it is the cloud's, not this terminal's.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=False) as progress:
        bar = progress.add_task(name, total=100, status="waiting for a secondary storage VM")
        while True:
            rows = kind.rows(daemon, id=template_id)
            if not rows:
                raise Failed(f"{kind.noun} {name} was deleted meanwhile")
            row = rows[0]
            moving = _moving(row)
            # A download that waits says for what in its hint.
            words = (row.get("hint") if moving else None) or row["status"]
            progress.update(bar, completed=_percent(row), status=words)
            if row["isready"]:
                return row
            if not moving:
                again = f"`systemvm {kind.noun.lower()} retry {name}` tries it again."
                raise Failed(row["status"], row.get("hint") or again)
            time.sleep(0.5)


def _list(daemon: Daemon, kind: Kind) -> None:
    rows = kind.rows(daemon)
    if daemon.as_json:
        output.as_json(rows)
        return
    output.table(
        ("NAME", "FORMAT", "SIZE", "STATUS", "ID"),
        [
            (
                row["name"],
                row.get("format", kind.noun),
                output.size(row.get("physicalsize") or row.get("size")),
                output.state("Ready") if row["isready"] else row["status"],
                row["id"],
            )
            for row in rows
        ],
        f"No {kind.noun} is registered yet; `systemvm {kind.noun.lower()} register NAME URL` begins.",
    )


def _register(daemon: Daemon, kind: Kind, name: str, wait: bool, **params: Any) -> None:
    answer = daemon.call(kind.register, name=name, displaytext=name, zoneid=daemon.zone_id(), **params)
    row = answer[kind.key]
    _show(daemon, kind, row[0] if isinstance(row, list) else row, wait)


def _show(daemon: Daemon, kind: Kind, row: dict[str, Any], wait: bool) -> None:
    """What becomes of a download that has just been asked for."""
    if wait and not daemon.as_json:
        row = follow(daemon, kind, row["id"], row["name"])
        click.echo(f"{row['name']} is Ready: {row['id']}")
    elif daemon.as_json:
        output.as_json(row)
    else:
        click.echo(row["id"])


def _find(daemon: Daemon, kind: Kind, name: str) -> dict[str, Any]:
    """By name or id; Failed when there is none."""
    if not kind.rows(daemon):
        raise Failed(f"no {kind.noun} is called {name!r}", "None is registered.")
    return daemon.find(kind.listing, kind.key, name, kind.noun, **{kind.filter_name: "all"})


def _delete(daemon: Daemon, kind: Kind, name: str, *, forced: bool = False) -> None:
    row = _find(daemon, kind, name)
    daemon.job(kind.delete, id=row["id"], forced="true" if forced else None)
    click.echo(f"{name} is deleted.")


def _retry(daemon: Daemon, kind: Kind, name: str, wait: bool) -> None:
    row = _find(daemon, kind, name)
    daemon.call(kind.retry, id=row["id"])
    _show(daemon, kind, row, wait)


checksum_option = click.option(
    "--checksum", help="Digest of the file as downloaded: hex digits, or {ALG}hex such as {SHA-256}9f86…"
)
wait_option = click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Follow it until it is Ready."
)


@click.group()
def template() -> None:
    """Disk images that machines are made from."""


@template.command("list")
@click.pass_obj
def list_templates(daemon: Daemon) -> None:
    """Templates with their state."""
    _list(daemon, TEMPLATE)


@template.command("register")
@click.argument("name")
@click.argument("url")
@click.option(
    "--format", "image_format", type=click.Choice(["QCOW2", "RAW"]), default="QCOW2", show_default=True
)
@checksum_option
@wait_option
@click.pass_obj
def register_template(
    daemon: Daemon, name: str, url: str, image_format: str, checksum: str | None, wait: bool
) -> None:
    """Bring the image at URL to secondary storage, as NAME."""
    _register(daemon, TEMPLATE, name, wait, url=url, format=image_format, hypervisor="KVM", checksum=checksum)


@template.command("delete")
@click.argument("name")
@click.option("--forced", is_flag=True, help="Also when machines use it: they keep their disks.")
@click.pass_obj
def delete_template(daemon: Daemon, name: str, forced: bool) -> None:
    """Remove a template, by name or id, from secondary storage."""
    _delete(daemon, TEMPLATE, name, forced=forced)


@template.command("retry")
@click.argument("name")
@wait_option
@click.pass_obj
def retry_template(daemon: Daemon, name: str, wait: bool) -> None:
    """Download a template once more, by name or id, after its download failed."""
    _retry(daemon, TEMPLATE, name, wait)


@click.group()
def iso() -> None:
    """CD images that machines boot from."""


@iso.command("list")
@click.pass_obj
def list_isos(daemon: Daemon) -> None:
    """ISOs with their state."""
    _list(daemon, ISO)


@iso.command("register")
@click.argument("name")
@click.argument("url")
@checksum_option
@wait_option
@click.pass_obj
def register_iso(daemon: Daemon, name: str, url: str, checksum: str | None, wait: bool) -> None:
    """Bring the ISO at URL to secondary storage, as NAME."""
    _register(daemon, ISO, name, wait, url=url, bootable="true", checksum=checksum)


@iso.command("delete")
@click.argument("name")
@click.pass_obj
def delete_iso(daemon: Daemon, name: str) -> None:
    """Remove an ISO, by name or id, from secondary storage."""
    _delete(daemon, ISO, name)


@iso.command("retry")
@click.argument("name")
@wait_option
@click.pass_obj
def retry_iso(daemon: Daemon, name: str, wait: bool) -> None:
    """Download an ISO once more, by name or id, after its download failed."""
    _retry(daemon, ISO, name, wait)
