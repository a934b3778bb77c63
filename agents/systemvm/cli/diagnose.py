# SPDX-License-Identifier: Apache-2.0
"""`systemvm diagnose`: ping, traceroute and arping from inside a system VM."""

from __future__ import annotations

import click

from systemvm.cli import output
from systemvm.cli.completion import complete_system_vm
from systemvm.cli.daemon_client import EXIT_FAILED, Daemon
from systemvm.cli.system_vms import SYSTEM_VM
from systemvm.wire.diagnostics import TYPES


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Exit code: 0 it answered; 1 it did not, or cannot be asked; 2 wrong usage; 3 no daemon answers.",
)
@click.argument("name", shell_complete=complete_system_vm)
@click.argument("kind", metavar="TYPE", type=click.Choice(TYPES))
@click.argument("address")
@click.argument("params", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def diagnose(daemon: Daemon, name: str, kind: str, address: str, params: tuple[str, ...]) -> None:
    """Run a ping, traceroute or arping in a system VM: what it can reach, as it sees it.

    \b
    systemvm diagnose s-1-VM ping 10.12.0.2
    systemvm diagnose v-2-VM arping 203.0.113.1 -I eth2
    """
    found = SYSTEM_VM.find(daemon, name)
    result = daemon.job(
        "runDiagnostics", targetid=found["id"], type=kind, ipaddress=address, params=" ".join(params)
    )["diagnostics"]
    if daemon.as_json:
        output.as_json(result)
    else:
        click.echo(result["stdout"], nl=False)
        click.echo(result["stderr"], nl=False, err=True)
    if result["exitcode"] != "0":
        raise SystemExit(EXIT_FAILED)
