# SPDX-License-Identifier: Apache-2.0
"""`systemvm ssh`, `cp`, `logs` and `serial`: reach a system VM and read its logs."""

from __future__ import annotations

import shlex
import subprocess
import time
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.completion import complete_copy, complete_system_vm
from systemvm.cli.daemon_client import EXIT_SSH_FAILED, EXIT_USAGE, CommandFailedError, DaemonClient
from systemvm.cli.ssh_login import SshCommandLine, print_command_line

#: Levels as journalctl spells them.
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_POLL_INTERVAL_S = 0.5


@click.command(
    short_help="Log in to a system VM, or run a command there.",
    context_settings={"ignore_unknown_options": True},
    epilog="Exit codes: that of COMMAND; 255 ssh failed; 1 the daemon knows no way into the VM; 3 the daemon "
    "cannot be reached.",
)
@click.argument("name", shell_complete=complete_system_vm)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--print", "only_print", is_flag=True, help="Print the ssh command line; do not run it.")
@click.pass_obj
def ssh(daemon: DaemonClient, name: str, command: tuple[str, ...], only_print: bool) -> None:
    """Log in to the system VM NAME as root, or run COMMAND there.

    The connection uses port 3922 and the zone's key. The host key must be the one that the VM's agent
    reported, so a reused address causes no warning and an impostor is rejected. Without COMMAND the
    complete ssh command line is printed to standard error.

    \b
    Examples:
      systemvm ssh s-1-VM
      systemvm ssh s-1-VM -- journalctl -u systemvm-agent -n 50
    """
    line = SshCommandLine.of(daemon, name).ssh(*command)
    if only_print:
        click.echo(shlex.join(line))
        return
    if not command:
        print_command_line(shlex.join(line))
    raise SystemExit(subprocess.run(line, check=False).returncode)


@click.command(
    "cp", epilog="Exit codes: 0 copied; 1 not copied; 2 wrong usage; 3 the daemon cannot be reached."
)
@click.argument("source", shell_complete=complete_copy)
@click.argument("destination", shell_complete=complete_copy)
@click.option("-r", "--recursive", is_flag=True, help="Copy directories and what is in them.")
@click.pass_obj
def copy(daemon: DaemonClient, source: str, destination: str, recursive: bool) -> None:
    """Copy a file to or from a system VM.

    Write a path inside a system VM as NAME:PATH. One of SOURCE and DESTINATION must be such a path.

    \b
    Examples:
      systemvm cp s-1-VM:/etc/cloudstack-release .
      systemvm cp probe.sh v-2-VM:/tmp/
    """
    remote = [path for path in (source, destination) if _vm_of(path)]
    if len(remote) != 1:
        raise CommandFailedError(
            "one of SOURCE and DESTINATION must be a path in a system VM, and only one",
            "write it as NAME:PATH, for example s-1-VM:/var/cache/cloud/cmd_line.json",
            EXIT_USAGE,
        )
    login = SshCommandLine.of(daemon, _vm_of(remote[0]))
    in_vm = f"{login.destination}:{remote[0].partition(':')[2]}"
    paths = [in_vm if path is remote[0] else path for path in (source, destination)]
    done = subprocess.run(login.scp(*paths, recursive=recursive), check=False)
    if done.returncode != 0:
        raise CommandFailedError(f"cannot copy {source} to {destination}", "see the message of scp above")


def _vm_of(path: str) -> str:
    """Return the name before the colon, as scp reads it: a slash before the colon makes a path local."""
    name, colon, _ = path.partition(":")
    return name if colon and "/" not in name else ""


@click.command(
    short_help="Print the journal of a system VM.",
    epilog="Exit codes: 0 success; 1 the system VM cannot be reached; 3 the daemon cannot be reached.",
)
@click.argument("name", shell_complete=complete_system_vm)
@click.option("-f", "--follow", is_flag=True, help="Print new entries until Ctrl-C.")
@click.option("--since", help="Start time as journalctl takes it: '10 min ago', '2026-11-01 12:00', 'today'.")
@click.option("--level", type=click.Choice(LEVELS), help="Only entries of this level or a more severe one.")
@click.option("-u", "--unit", help="Only entries of this unit, for example systemvm-agent or systemvm-fetch.")
@click.option(
    "-n", "--lines", default=200, show_default=True, help="Number of entries; ignored when --since is given."
)
@click.pass_obj
def logs(
    daemon: DaemonClient,
    name: str,
    follow: bool,
    since: str | None,
    level: str | None,
    unit: str | None,
    lines: int,
) -> None:
    """Print the journal of the system VM NAME.

    When the VM cannot be reached, "systemvm serial NAME" prints what its host captured.

    \b
    Examples:
      systemvm logs s-1-VM -f --level warning
      systemvm logs v-2-VM --since '5 min ago' -u systemvm-agent
    """
    journalctl = ["journalctl", "--no-pager", "--output=short-iso"]
    journalctl += ["--follow"] if follow else []
    journalctl += [f"--since={since}"] if since else [f"--lines={lines}"]
    journalctl += [f"--priority={level}"] if level else []
    journalctl += [f"--unit={unit}"] if unit else []
    login = SshCommandLine.of(daemon, name)
    try:
        code = subprocess.run(login.ssh(shlex.join(journalctl)), check=False).returncode
    except KeyboardInterrupt:
        return
    if code == EXIT_SSH_FAILED:
        raise CommandFailedError(
            f"cannot reach {name} by ssh",
            f'run "systemvm system-vm why {name}" for the reason, "systemvm serial {name}" for its boot log',
        )
    raise SystemExit(code)


@click.command(
    short_help="Print the serial console log of a system VM.",
    epilog="Exit codes: 0 success; 1 no such system VM, or no log yet; 3 the daemon cannot be reached.",
)
@click.argument("name", shell_complete=complete_system_vm)
@click.option("-f", "--follow", is_flag=True, help="Print new output until Ctrl-C.")
@click.pass_obj
def serial(daemon: DaemonClient, name: str, follow: bool) -> None:
    """Print the serial console log of the system VM NAME: kernel, boot, and why it did not come Up.

    The host keeps this log, so the command works even when the VM cannot be reached.

    \b
    Example:
      systemvm serial -f s-1-VM
    """
    part = daemon.call("system_vm.serial", name=name)
    if daemon.as_json:
        output.print_json(part)
        return
    click.echo(part["text"], nl=False)
    try:
        while follow:
            part = _next_part(daemon, name, part)
            click.echo(part["text"], nl=False)
    except KeyboardInterrupt:
        click.echo()


def _next_part(daemon: DaemonClient, name: str, part: dict[str, Any]) -> dict[str, Any]:
    """Return the log's next part, after a pause when it is empty: the daemon sends no event for it."""
    found: dict[str, Any] = daemon.call("system_vm.serial", name=name, offset=part["next_offset"])
    if not found["text"]:
        time.sleep(_POLL_INTERVAL_S)
    return found
