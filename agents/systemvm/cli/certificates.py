# SPDX-License-Identifier: Apache-2.0
"""`systemvm ca` and `systemvm certificate`: what browsers trust, and who may speak on the control channel."""

from __future__ import annotations

import time
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.completion import complete_system_vm
from systemvm.cli.daemon_client import Daemon, Failed


@click.group()
def ca() -> None:
    """The certificate authorities: the public one, which browsers see, and the agents' own."""


@ca.command(epilog="Exit code: 0; 3 no daemon answers.")
@click.pass_obj
def show(daemon: Daemon) -> None:
    """Print the public root as PEM. It may sign for the zones' names and addresses alone.

    \b
    systemvm ca show > systemvm-root.crt
    Debian:    cp systemvm-root.crt /usr/local/share/ca-certificates/ && update-ca-certificates
    Chromium:  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n systemvm -i systemvm-root.crt
    """
    click.echo(daemon.call("ca.show")["public_root_pem"], nl=False)


@ca.command("rotate-control")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Stay until it is done.")
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to stay at most.")
@click.pass_obj
def rotate_control(daemon: Daemon, wait: bool, timeout_s: float) -> None:
    """Replace the CA of the control channel; agents stay Up, both CAs are trusted meanwhile."""
    progress = daemon.call("ca.rotate_control")
    give_up_s = time.monotonic() + timeout_s
    told: Any = None
    while wait and progress["phase"] != "steady":
        said = (progress["text"], progress["waits_for"])
        if said != told and not daemon.as_json:
            _tell(progress)
        told = said
        if time.monotonic() > give_up_s:
            waits = "; ".join(progress["waits_for"]) or "nobody"
            raise Failed(
                f"not done in {timeout_s:g} s, it waits for {waits}",
                "It goes on by itself; a reboot of a system VM gives it what it lacks.",
            )
        time.sleep(0.5)
        progress = daemon.call("ca.control")
    _tell(progress) if not daemon.as_json else output.as_json(progress)


@ca.command("control")
@click.pass_obj
def control(daemon: Daemon) -> None:
    """Whether the CA of the control channel is being replaced, and whom that waits for."""
    progress = daemon.call("ca.control")
    output.as_json(progress) if daemon.as_json else _tell(progress)


def _tell(progress: dict[str, Any]) -> None:
    click.echo(progress["text"])
    for line in progress["waits_for"]:
        click.echo(f"  waits for {line}")


@click.group()
def certificate() -> None:
    """Certificates of the control channel."""


@certificate.command("list")
@click.argument("name", required=False, shell_complete=complete_system_vm)
@click.pass_obj
def list_certificates(daemon: Daemon, name: str | None) -> None:
    """What was signed, newest first: for the system VM NAME, or for all."""
    rows = daemon.call("certificate.list", name=name)["certificates"]
    if daemon.as_json:
        output.as_json(rows)
        return
    output.table(
        ("SERIAL", "NAME", "KIND", "UNTIL", "REVOKED", ""),
        [
            (row["serial"], row["name"], row["kind"], row["not_after"], row.get("revoked"), row.get("reason"))
            for row in rows
        ],
        "No certificate was signed yet.",
    )


@certificate.command("revoke")
@click.argument("serial")
@click.option("--reason", help="For the record.")
@click.pass_obj
def revoke(daemon: Daemon, serial: str, reason: str | None) -> None:
    """Refuse the certificate SERIAL from now on; a connection that uses it ends at once."""
    row = daemon.call("certificate.revoke", serial=serial, reason=reason)
    click.echo(f"{row['serial']} of {row['name']} is revoked.")
