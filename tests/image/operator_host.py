# SPDX-License-Identifier: Apache-2.0
"""Testinfra over the operator's ssh command, as printed by `systemvm ssh NAME --print`."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testinfra.backend import base
from testinfra.host import Host

if TYPE_CHECKING:
    from booted_cloud import BootedCloud


class OperatorBackend(base.BaseBackend):  # type: ignore[misc]
    """One ssh connection that stays open, because each new one costs the guest a second under emulation."""

    NAME = "operator"

    def __init__(self, line: list[str], **options: Any) -> None:
        super().__init__(line[-1], **options)
        control = Path(tempfile.mkdtemp(prefix="systemvm-ssh-")) / "control"
        at = line.index("ssh") + 1
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={control}"]
        self._line = shlex.join([*line[:at], *shared, *line[at:]])

    def run(self, command: str, *arguments: str, **options: Any) -> base.CommandResult:
        text = self.get_command(command, *arguments)
        done = self.run_local(f"{self._line} %s", text)
        done.command = self.encode(text)
        if done.rc == 255:
            raise RuntimeError(f"ssh: {done.stderr}")
        return done


def operator_host(cloud: BootedCloud, kind: str) -> Host:
    name = cloud.wait_up(kind)["name"]
    return Host(OperatorBackend(shlex.split(cloud.cli("ssh", name, "--print").stdout)))
