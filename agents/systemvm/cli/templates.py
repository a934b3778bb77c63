# SPDX-License-Identifier: Apache-2.0
"""`systemvm template` and `systemvm iso`: register an image by URL and follow its download."""

from __future__ import annotations

from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.export import export_command
from systemvm.cli.job_progress import run_with_progress
from systemvm.cli.progress import wait_until_ready
from systemvm.cli.snapshot_images import create_template
from systemvm.cli.source_options import source_options
from systemvm.cli.template_kind import ISO, TEMPLATE, TemplateKind
from systemvm.cli.upload import upload_of_templates


def _list(daemon: DaemonClient, kind: TemplateKind) -> None:
    rows = kind.rows(daemon)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "FORMAT", "SIZE", "STATUS", "ID"),
        [
            (
                row["name"],
                row.get("format", kind.noun),
                output.format_size(row.get("physicalsize") or row.get("size")),
                output.coloured_state("Ready") if row["isready"] else row["status"],
                row["id"],
            )
            for row in rows
        ],
        f'There is no {kind.noun} yet. Run "systemvm {kind.noun.lower()} register NAME URL" to register one.',
    )


def _register(daemon: DaemonClient, kind: TemplateKind, name: str, wait: bool, **params: Any) -> None:
    answer = daemon.call(
        kind.register_command, name=name, displaytext=name, zoneid=daemon.zone_id(), **params
    )
    row = answer[kind.key]
    _print_download(daemon, kind, row[0] if isinstance(row, list) else row, wait)


def _print_download(daemon: DaemonClient, kind: TemplateKind, row: dict[str, Any], wait: bool) -> None:
    """Print a download that has just been started: its progress, its row or its id."""
    if wait and not daemon.as_json:
        row = wait_until_ready(daemon, kind, row["id"], row["name"])
        click.echo(f"{row['name']} is Ready: {row['id']}")
    elif daemon.as_json:
        output.print_json(row)
    else:
        click.echo(row["id"])


def _delete(daemon: DaemonClient, kind: TemplateKind, name: str, *, forced: bool = False) -> None:
    row = kind.find(daemon, name)
    daemon.run_job(kind.delete_command, id=row["id"], forced="true" if forced else None)
    click.echo(f"{name} is deleted.")


def _retry(daemon: DaemonClient, kind: TemplateKind, name: str, wait: bool) -> None:
    row = kind.find(daemon, name)
    daemon.call(kind.retry_command, id=row["id"])
    _print_download(daemon, kind, row, wait)


wait_option = click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until it is Ready."
)


def _copy(daemon: DaemonClient, kind: TemplateKind, name: str, zone: str) -> None:
    row = kind.find(daemon, name)
    target = daemon.find("listZones", "zone", zone, "zone")
    command = kind.register_command.replace("register", "copy")
    title = f"copy {name} to {zone}"
    result = run_with_progress(daemon, title, command, id=row["id"], destzoneid=target["id"])
    if daemon.as_json:
        output.print_json(result[kind.key])
    else:
        click.echo(f"{name} is Ready in {zone}: {row['id']}")


def _share(
    daemon: DaemonClient,
    kind: TemplateKind,
    name: str,
    accounts: tuple[str, ...],
    public: bool | None,
    remove: bool,
) -> None:
    row = kind.find(daemon, name)
    noun = kind.register_command.removeprefix("register")
    if accounts or public is not None:
        daemon.call(
            f"update{noun}Permissions",
            id=row["id"],
            op=("remove" if remove else "add") if accounts else None,
            accounts=",".join(accounts) or None,
            ispublic=None if public is None else str(public).lower(),
        )
    shown = daemon.call(f"list{noun}Permissions", id=row["id"])["templatepermission"]
    if daemon.as_json:
        output.print_json(shown)
        return
    click.echo(f"{name} is {'public' if shown['ispublic'] else 'private'}.")
    for account in shown["account"]:
        click.echo(account)


@click.group(short_help="Manage templates (disk images).")
def template() -> None:
    """Manage templates: disk images that virtual machines are created from.

    \b
    Example:
      systemvm template register tiny https://images.example.test/tiny.qcow2
      systemvm template register fedora oci://quay.example.test/containerdisks/fedora:41
    """


@template.command("register")
@click.argument("name")
@click.argument("url")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["QCOW2", "RAW", "VHD", "VHDX", "VMDK", "OVA", "TAR"], case_sensitive=False),
    default="QCOW2",
    show_default=True,
    help="Format of the image at URL.",
)
@source_options
@wait_option
@click.pass_obj
def register_template(
    daemon: DaemonClient, name: str, url: str, image_format: str, source: dict[str, str | None], wait: bool
) -> None:
    """Register the disk image at URL as the template NAME.

    A system VM downloads the image to secondary storage. Ctrl-C does not stop the download.

    The file can be compressed with gzip, bzip2, xz or zstd.

    \b
    Example:
      systemvm template register tiny https://images.example.test/tiny.qcow2
      systemvm template register fedora oci://quay.example.test/containerdisks/fedora:41
    """
    _register(daemon, TEMPLATE, name, wait, url=url, format=image_format, hypervisor="KVM", **source)


@template.command("delete")
@click.argument("name")
@click.option("--forced", is_flag=True, help="Delete it even if VMs use it. Those VMs keep their disks.")
@click.pass_obj
def delete_template(daemon: DaemonClient, name: str, forced: bool) -> None:
    """Delete the template NAME, given by name or id.

    \b
    Example:
      systemvm template delete tiny
    """
    _delete(daemon, TEMPLATE, name, forced=forced)


@click.group(short_help="Manage ISOs (CD images).")
def iso() -> None:
    """Manage ISOs: CD images that virtual machines boot from.

    \b
    Example:
      systemvm iso register netboot https://images.example.test/netboot.iso
    """


@iso.command("register")
@click.argument("name")
@click.argument("url")
@source_options
@wait_option
@click.pass_obj
def register_iso(
    daemon: DaemonClient, name: str, url: str, source: dict[str, str | None], wait: bool
) -> None:
    """Register the CD image at URL as the ISO NAME.

    A system VM downloads the image to secondary storage. Ctrl-C does not stop the download.

    \b
    Example:
      systemvm iso register netboot https://images.example.test/netboot.iso
    """
    _register(daemon, ISO, name, wait, url=url, bootable="true", **source)


@iso.command("delete")
@click.argument("name")
@click.pass_obj
def delete_iso(daemon: DaemonClient, name: str) -> None:
    """Delete the ISO NAME, given by name or id.

    \b
    Example:
      systemvm iso delete netboot
    """
    _delete(daemon, ISO, name)


def _add_commands(group: click.Group, kind: TemplateKind, example: str) -> None:
    """Add what both kinds have in the same way; `example` is a name for the help."""
    noun, command = kind.noun, f"systemvm {group.name}"

    @group.command("list", help=_help(f"List {noun}s with their size and status.", f"{command} list"))
    @click.pass_obj
    def list_all(daemon: DaemonClient) -> None:
        _list(daemon, kind)

    @group.command(
        "retry",
        help=_help(
            f"Download the {noun} NAME again after a failure.",
            f"{command} retry {example}",
            f"NAME is the name or id of {_noun_phrase(kind)} whose download failed.",
        ),
    )
    @click.argument("name")
    @wait_option
    @click.pass_obj
    def retry(daemon: DaemonClient, name: str, wait: bool) -> None:
        _retry(daemon, kind, name, wait)

    @group.command(
        "follow",
        help=_help(
            f"Follow the download of the {noun} NAME.",
            f"{command} follow {example}",
            "It ends when the download is Ready or has failed. Ctrl-C does not stop the download.",
        ),
    )
    @click.argument("name")
    @click.pass_obj
    def follow(daemon: DaemonClient, name: str) -> None:
        _print_download(daemon, kind, kind.find(daemon, name), True)

    _add_sharing(group, kind, example)
    group.add_command(export_command(kind))
    group.add_command(upload_of_templates(kind))


def _add_sharing(group: click.Group, kind: TemplateKind, example: str) -> None:
    """Add the commands by which other zones and accounts get a template or an ISO."""
    noun, command = kind.noun, f"systemvm {group.name}"

    @group.command(
        "copy",
        help=_help(
            f"Copy the {noun} NAME to the zone ZONE.",
            f"{command} copy {example} zone2",
            "It keeps its id there.",
        ),
    )
    @click.argument("name")
    @click.argument("zone")
    @click.pass_obj
    def copy(daemon: DaemonClient, name: str, zone: str) -> None:
        _copy(daemon, kind, name, zone)

    @group.command(
        "share",
        help=_help(
            f"Share the {noun} NAME with ACCOUNTS.",
            f"{command} share {example} alice bob",
            "Without ACCOUNTS only who can use it is printed.",
        ),
    )
    @click.argument("name")
    @click.argument("accounts", nargs=-1)
    @click.option("--public/--private", default=None, help="Whether every account can use it.")
    @click.option("--remove", is_flag=True, help="Take the permission from these accounts.")
    @click.pass_obj
    def share(
        daemon: DaemonClient, name: str, accounts: tuple[str, ...], public: bool | None, remove: bool
    ) -> None:
        _share(daemon, kind, name, accounts, public, remove)


def _help(summary: str, example: str, more: str = "") -> str:
    """Return the help of a command, as click reads it from a docstring."""
    return "\n\n".join(part for part in (summary, more, f"\b\nExample:\n  {example}") if part)


def _noun_phrase(kind: TemplateKind) -> str:
    return f"{'an' if kind is ISO else 'a'} {kind.noun}"


_add_commands(template, TEMPLATE, "tiny")
_add_commands(iso, ISO, "netboot")
template.add_command(create_template)
