# SPDX-License-Identifier: Apache-2.0
"""What users' machines and system VMs have in common on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from attrs import field, frozen

from systemvm.cli import output
from systemvm.cli.daemon_client import Daemon


@frozen
class MachineKind:
    """Machines of one kind, as CloudStack's commands call them."""

    noun: str
    listing: str
    key: str
    scope: Mapping[str, str] = field(factory=dict)

    def rows(self, daemon: Daemon) -> list[dict[str, Any]]:
        return daemon.records(self.listing, self.key, **self.scope)

    def find(self, daemon: Daemon, name: str) -> dict[str, Any]:
        return daemon.find(self.listing, self.key, name, self.noun, **self.scope)

    def show(
        self,
        daemon: Daemon,
        columns: Sequence[str],
        cells: Callable[[dict[str, Any]], Sequence[Any]],
        empty: str,
    ) -> None:
        """All of them, with the reason below when one is not as it should be."""
        rows = self.rows(daemon)
        if daemon.as_json:
            output.as_json(rows)
            return
        reasons = {
            row["name"]: output.with_hint(row["reason"], row.get("hint")) for row in rows if row.get("reason")
        }
        output.table(columns, [cells(row) for row in rows], empty, reasons)

    def act(self, daemon: Daemon, command: str, name: str, done: str, **params: Any) -> None:
        """Follow a command on one of them to its end."""
        daemon.job(command, id=self.find(daemon, name)["id"], **params)
        click.echo(f"{name} is {done}.")
