# SPDX-License-Identifier: Apache-2.0
"""`systemvm ca` and `systemvm certificate`: the public root, and the certificates of the control channel."""

from __future__ import annotations

import time
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.completion import complete_system_vm
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient


@click.group(short_help="Manage the public CA and the control CA.")
def ca() -> None:
    """Manage the public CA, which browsers see, and the control CA of the agents.

    \b
    Example:
      systemvm ca show > systemvm-root.crt
    """


@ca.command(epilog="Exit codes: 0 success; 3 the daemon cannot be reached.")
@click.pass_obj
def show(daemon: DaemonClient) -> None:
    """Print the root certificate of the public CA as PEM.

    Its name constraints allow it to sign only for the zones' domains and addresses, so it is safe to trust.

    \b
    Examples: save it, then let Debian, then Chromium trust it
      systemvm ca show > systemvm-root.crt
      cp systemvm-root.crt /usr/local/share/ca-certificates/ && update-ca-certificates
      certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n systemvm -i systemvm-root.crt
    """
    click.echo(daemon.call("ca.show")["public_root_pem"], nl=False)


@ca.command("rotate-control")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until the rotation is complete."
)
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to wait at most.")
@click.pass_obj
def rotate_control(daemon: DaemonClient, wait: bool, timeout_s: float) -> None:
    """Replace the control CA.

    Agents stay Up: until each of them has a certificate of the new CA, both CAs are trusted.

    \b
    Example:
      systemvm ca rotate-control --timeout 1800
    """
    progress = daemon.call("ca.rotate_control")
    give_up_s = time.monotonic() + timeout_s
    printed: Any = None
    while wait and progress["phase"] != "steady":
        current = (progress["text"], progress["waits_for"])
        if current != printed and not daemon.as_json:
            _print_progress(progress)
        printed = current
        if time.monotonic() > give_up_s:
            waits_for = "; ".join(progress["waits_for"]) or "nothing"
            raise CommandFailedError(
                f"rotation is not complete after {timeout_s:g} s: waiting for {waits_for}",
                "reboot the system VMs that it waits for; the rotation continues in the daemon",
            )
        time.sleep(0.5)
        progress = daemon.call("ca.control")
    _print_progress(progress) if not daemon.as_json else output.print_json(progress)


@ca.command("control")
@click.pass_obj
def control(daemon: DaemonClient) -> None:
    """Print the state of the control CA.

    While a rotation is under way, the system VMs that it waits for are listed.

    \b
    Example:
      systemvm ca control
    """
    progress = daemon.call("ca.control")
    output.print_json(progress) if daemon.as_json else _print_progress(progress)


def _print_progress(progress: dict[str, Any]) -> None:
    click.echo(progress["text"])
    for line in progress["waits_for"]:
        click.echo(f"  waits for {line}")


@click.group(short_help="Manage certificates of the control channel.")
def certificate() -> None:
    """List and revoke certificates of the control channel.

    \b
    Example:
      systemvm certificate list s-1-VM
    """


@certificate.command("list")
@click.argument("name", required=False, shell_complete=complete_system_vm)
@click.pass_obj
def list_certificates(daemon: DaemonClient, name: str | None) -> None:
    """List certificates that the control CA signed.

    The newest is first. With NAME only those of that system VM are listed.

    \b
    Example:
      systemvm certificate list s-1-VM
    """
    rows = daemon.call("certificate.list", name=name)["certificates"]
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("SERIAL", "NAME", "KIND", "UNTIL", "REVOKED", ""),
        [
            (row["serial"], row["name"], row["kind"], row["not_after"], row.get("revoked"), row.get("reason"))
            for row in rows
        ],
        "The control CA has not signed a certificate yet.",
    )


@certificate.command("revoke")
@click.argument("serial")
@click.option("--reason", help="Reason to keep with the certificate.")
@click.pass_obj
def revoke(daemon: DaemonClient, serial: str, reason: str | None) -> None:
    """Revoke the certificate with the number SERIAL. A connection that uses it is closed at once.

    \b
    Example:
      systemvm certificate revoke 1f2e --reason "key was copied"
    """
    row = daemon.call("certificate.revoke", serial=serial, reason=reason)
    click.echo(f"certificate {row['serial']} of {row['name']} is revoked.")
