# SPDX-License-Identifier: Apache-2.0
"""`systemvm --help`, and the help of each command."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from systemvm.cli.__main__ import main


def commands(command: click.Command = main, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command and sub-command."""
    yield path
    if isinstance(command, click.Group):
        for name, member in command.commands.items():
            yield from commands(member, *path, name)


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_help_has_an_example_that_begins_with_the_command(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    assert f"\n    systemvm {' '.join(arguments)}".rstrip() in result.output


@pytest.mark.parametrize("arguments", [arguments for arguments in commands() if len(arguments) < 2])
def test_lists_of_commands_are_not_cut(arguments: tuple[str, ...]) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(main, [*arguments, "--help"])
    assert "..." not in result.output.partition("Commands:")[2]
