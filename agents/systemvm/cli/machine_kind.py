# SPDX-License-Identifier: Apache-2.0
"""What users' machines and system VMs have in common on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from attrs import field, frozen

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient


@frozen
class MachineKind:
    """Machines of one kind, with the names that CloudStack's commands use for them."""

    noun: str
    list_command: str
    key: str
    scope: Mapping[str, str] = field(factory=dict)

    def rows(self, daemon: DaemonClient) -> list[dict[str, Any]]:
        return daemon.records(self.list_command, self.key, **self.scope)

    def find(self, daemon: DaemonClient, name: str) -> dict[str, Any]:
        """Return the machine with this name or id.

        Raises: CommandFailedError when there is none, or more than one.
        """
        return daemon.find(self.list_command, self.key, name, self.noun, **self.scope)

    def print_list(
        self,
        daemon: DaemonClient,
        columns: Sequence[str],
        cells: Callable[[dict[str, Any]], Sequence[Any]],
        empty: str,
    ) -> None:
        """Print all of them, and below the table the reasons of those that are not as they should be."""
        rows = self.rows(daemon)
        if daemon.as_json:
            output.print_json(rows)
            return
        reasons = {
            row["name"]: output.with_hint(row["reason"], row.get("hint")) for row in rows if row.get("reason")
        }
        output.print_table(columns, [cells(row) for row in rows], empty, reasons)

    def run(self, daemon: DaemonClient, command: str, name: str, done: str, **params: Any) -> None:
        """Run an asynchronous command on one of them and wait for its job."""
        daemon.run_job(command, id=self.find(daemon, name)["id"], **params)
        click.echo(f"{name} is {done}.")
