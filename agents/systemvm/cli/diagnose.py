# SPDX-License-Identifier: Apache-2.0
"""`systemvm diagnose`: ping, traceroute and arping from inside a system VM."""

from __future__ import annotations

import click

from systemvm.cli import output
from systemvm.cli.completion import complete_system_vm
from systemvm.cli.daemon_client import EXIT_FAILED, DaemonClient
from systemvm.cli.system_vms import SYSTEM_VM
from systemvm.wire.diagnostics import TYPES


@click.command(
    short_help="Run ping, traceroute or arping in a system VM.",
    context_settings={"ignore_unknown_options": True},
    epilog="Exit codes: 0 ADDRESS answered; 1 it did not answer, or the program did not run; 2 wrong usage; "
    "3 the daemon cannot be reached.",
)
@click.argument("name", shell_complete=complete_system_vm)
@click.argument("probe_type", metavar="TYPE", type=click.Choice(TYPES))
@click.argument("address")
@click.argument("params", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def diagnose(daemon: DaemonClient, name: str, probe_type: str, address: str, params: tuple[str, ...]) -> None:
    """Run ping, traceroute or arping inside the system VM NAME, to see what it can reach.

    TYPE is ping, traceroute or arping. PARAMS are passed on to the program.

    \b
    Examples:
      systemvm diagnose s-1-VM ping 10.12.0.2
      systemvm diagnose v-2-VM arping 203.0.113.1 -I eth2
    """
    found = SYSTEM_VM.find(daemon, name)
    result = daemon.run_job(
        "runDiagnostics", targetid=found["id"], type=probe_type, ipaddress=address, params=" ".join(params)
    )["diagnostics"]
    if daemon.as_json:
        output.print_json(result)
    else:
        click.echo(result["stdout"], nl=False)
        click.echo(result["stderr"], nl=False, err=True)
    if result["exitcode"] != "0":
        raise SystemExit(EXIT_FAILED)
