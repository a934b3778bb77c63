# SPDX-License-Identifier: Apache-2.0
"""Shell completion: click completes commands and options, the daemon supplies the names of system VMs."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from systemvm.cli.daemon_client import EXIT_USAGE, CommandFailedError, DaemonClient, socket_path

_SHELLS = ("bash", "zsh", "fish")
_TIMEOUT_S = 2.0  # a shell is blocked until completion answers


@click.command(
    short_help="Print a completion script for your shell.",
    epilog="Exit codes: 0 success; 2 the shell is not supported.",
)
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names in SHELL.

    \b
    Examples: install it for bash, zsh and fish
      echo 'eval "$(systemvm completion bash)"' >> ~/.bashrc
      echo 'eval "$(systemvm completion zsh)"' >> ~/.zshrc
      systemvm completion fish > ~/.config/fish/completions/systemvm.fish
    """
    complete_class = get_completion_class(shell)
    if complete_class is None:
        raise CommandFailedError(
            f"shell {shell} is not supported", f"choose one of these shells: {', '.join(_SHELLS)}", EXIT_USAGE
        )
    command = click.get_current_context().find_root().command
    click.echo(complete_class(command, {}, "systemvm", "_SYSTEMVM_COMPLETE").source())


def complete_copy(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete an argument of `cp`: the name of a system VM with a colon, or a local file."""
    found = complete_system_vm(context, parameter, incomplete)
    return [
        *(CompletionItem(f"{item.value}:", help=item.help) for item in found),
        CompletionItem(incomplete, "file"),
    ]


def complete_system_vm(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a system VM; without a daemon to nothing, because Tab must print no error."""
    daemon = DaemonClient(socket_path(context.find_root().params.get("root")))
    try:
        rows = daemon.call("listSystemVms", timeout_s=_TIMEOUT_S).get("systemvm", [])
    except CommandFailedError:
        return []
    return [
        CompletionItem(row["name"], help=row.get("agentstate") or row["state"])
        for row in rows
        if row["name"].lower().startswith(incomplete.lower())
    ]
