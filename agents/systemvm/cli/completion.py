# SPDX-License-Identifier: Apache-2.0
"""Shell completion: of commands and options by click, of system VMs' names by asking the daemon."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from systemvm.cli.daemon_client import EXIT_USAGE, Daemon, Failed, socket_path

_SHELLS = ("bash", "zsh", "fish")
_TIMEOUT_S = 2.0  # who pressed the Tab key waits no longer


@click.command(epilog="Exit code: 0; 2 a shell that is not known.")
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names in SHELL.

    \b
    bash:  echo 'eval "$(systemvm completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(systemvm completion zsh)"' >> ~/.zshrc
    fish:  systemvm completion fish > ~/.config/fish/completions/systemvm.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise Failed(f"no completion is known for {shell}", f"There is: {', '.join(_SHELLS)}", EXIT_USAGE)
    command = click.get_current_context().find_root().command
    click.echo(kind(command, {}, "systemvm", "_SYSTEMVM_COMPLETE").source())


def complete_copy(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Of `cp`: a system VM's name and a colon, or a file here."""
    found = complete_system_vm(context, parameter, incomplete)
    return [
        *(CompletionItem(f"{item.value}:", help=item.help) for item in found),
        CompletionItem(incomplete, "file"),
    ]


def complete_system_vm(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of system VMs; none when no daemon answers, because a Tab key must not print an error."""
    daemon = Daemon(socket_path(context.find_root().params.get("root")))
    try:
        rows = daemon.call("listSystemVms", timeout_s=_TIMEOUT_S).get("systemvm", [])
    except Failed:
        return []
    return [
        CompletionItem(row["name"], help=row.get("agentstate") or row["state"])
        for row in rows
        if row["name"].lower().startswith(incomplete.lower())
    ]
