# SPDX-License-Identifier: Apache-2.0
"""`systemvm ssh`, `cp`, `logs` and `serial`: into a system VM, and what it has to say."""

from __future__ import annotations

import shlex
import subprocess
import time
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.completion import complete_copy, complete_system_vm
from systemvm.cli.daemon_client import EXIT_SSH_FAILED, EXIT_USAGE, Daemon, Failed
from systemvm.cli.ssh_login import Login, show

#: journalctl's own words for a level.
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_FOLLOW_EVERY_S = 0.5


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Exit code: that of COMMAND; 255 when ssh itself failed; 1 or 3 when the daemon knows no way in.",
)
@click.argument("name", shell_complete=complete_system_vm)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--print", "only_print", is_flag=True, help="Print the plain ssh command line and do nothing.")
@click.pass_obj
def ssh(daemon: Daemon, name: str, command: tuple[str, ...], only_print: bool) -> None:
    """Log in to a system VM as root (port 3922, by the zone's key), or run COMMAND there.

    The host key is the one that its agent reported: an impostor is refused, a reused address never warns. The
    plain ssh command line is printed too.

    \b
    systemvm ssh s-1-VM
    systemvm ssh s-1-VM -- journalctl -u systemvm-agent -n 50
    """
    line = Login.of(daemon, name).ssh(*command)
    if only_print:
        click.echo(shlex.join(line))
        return
    if not command:
        show(shlex.join(line))
    raise SystemExit(subprocess.run(line, check=False).returncode)


@click.command("cp", epilog="Exit code: 0 copied; 1 not copied; 2 wrong usage; 3 no daemon answers.")
@click.argument("source", shell_complete=complete_copy)
@click.argument("destination", shell_complete=complete_copy)
@click.option("-r", "--recursive", is_flag=True, help="Whole directories.")
@click.pass_obj
def copy(daemon: Daemon, source: str, destination: str, recursive: bool) -> None:
    """Copy a file into a system VM or out of it; there, a path is NAME:PATH.

    \b
    systemvm cp s-1-VM:/etc/cloudstack-release .
    systemvm cp probe.sh v-2-VM:/tmp/
    """
    remote = [word for word in (source, destination) if _vm_of(word)]
    if len(remote) != 1:
        raise Failed(
            "one of SOURCE and DESTINATION must be in a system VM",
            "Write it NAME:PATH, as in s-1-VM:/var/cache/cloud/cmd_line.json",
            EXIT_USAGE,
        )
    login = Login.of(daemon, _vm_of(remote[0]))
    there = f"{login.place}:{remote[0].partition(':')[2]}"
    paths = [there if word is remote[0] else word for word in (source, destination)]
    done = subprocess.run(login.scp(*paths, recursive=recursive), check=False)
    if done.returncode != 0:
        raise Failed(f"{source} was not copied to {destination}", "scp's own words stand above.")


def _vm_of(word: str) -> str:
    """The name before the colon, as scp reads it: a slash before the colon makes it a local path."""
    name, colon, _ = word.partition(":")
    return name if colon and "/" not in name else ""


@click.command(epilog="Exit code: 0; 1 the VM cannot be reached; 3 no daemon answers.")
@click.argument("name", shell_complete=complete_system_vm)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come; Ctrl-C ends it.")
@click.option("--since", help="As journalctl takes it: '10 min ago', '2026-11-01 12:00', 'today'.")
@click.option("--level", type=click.Choice(LEVELS), help="This level and worse ones.")
@click.option("-u", "--unit", help="One unit: systemvm-agent, systemvm-fetch, systemvm-preinit …")
@click.option("-n", "--lines", default=200, show_default=True, help="How many lines, without --since.")
@click.pass_obj
def logs(
    daemon: Daemon,
    name: str,
    follow: bool,
    since: str | None,
    level: str | None,
    unit: str | None,
    lines: int,
) -> None:
    """A system VM's journal. When it cannot be reached, `systemvm serial` shows what its host captured.

    \b
    systemvm logs s-1-VM -f --level warning
    systemvm logs v-2-VM --since '5 min ago' -u systemvm-agent
    """
    words = ["journalctl", "--no-pager", "--output=short-iso"]
    words += ["--follow"] if follow else []
    words += [f"--since={since}"] if since else [f"--lines={lines}"]
    words += [f"--priority={level}"] if level else []
    words += [f"--unit={unit}"] if unit else []
    login = Login.of(daemon, name)
    try:
        code = subprocess.run(login.ssh(shlex.join(words)), check=False).returncode
    except KeyboardInterrupt:
        return
    if code == EXIT_SSH_FAILED:
        raise Failed(
            f"{name} cannot be reached by ssh",
            f"`systemvm serial {name}` shows what its host captured; `systemvm system-vm list` says why.",
        )
    raise SystemExit(code)


@click.command(epilog="Exit code: 0; 1 there is no such VM, or it has no log yet; 3 no daemon answers.")
@click.argument("name", shell_complete=complete_system_vm)
@click.option("-f", "--follow", is_flag=True, help="Go on as it writes; Ctrl-C ends it.")
@click.pass_obj
def serial(daemon: Daemon, name: str, follow: bool) -> None:
    """What a system VM wrote to its serial console: kernel, boot, and why it did not come Up.

    Its host keeps it, so this works when nothing else does.
    """
    part = daemon.call("system_vm.serial", name=name)
    if daemon.as_json:
        output.as_json(part)
        return
    click.echo(part["text"], nl=False)
    try:
        while follow:
            part = _more(daemon, name, part)
            click.echo(part["text"], nl=False)
    except KeyboardInterrupt:
        click.echo()


def _more(daemon: Daemon, name: str, part: dict[str, Any]) -> dict[str, Any]:
    """The next piece; a pause when there was nothing new, because nobody tells when a file grows."""
    found: dict[str, Any] = daemon.call("system_vm.serial", name=name, offset=part["next_offset"])
    if not found["text"]:
        time.sleep(_FOLLOW_EVERY_S)
    return found
