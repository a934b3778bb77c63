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
    """Runs commands over one persistent ssh connection: each new one costs an emulated guest a second."""

    NAME = "operator"

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__(command[-1], **options)
        control = Path(tempfile.mkdtemp(prefix="systemvm-ssh-")) / "control"
        at = command.index("ssh") + 1
        shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={control}"]
        self._command = shlex.join([*command[:at], *shared, *command[at:]])

    def run(self, command: str, *arguments: str, **options: Any) -> base.CommandResult:
        text = self.get_command(command, *arguments)
        done = self.run_local(f"{self._command} %s", text)
        done.command = self.encode(text)
        if done.rc == 255:
            raise RuntimeError(f"ssh: {done.stderr}")
        return done


def operator_host(cloud: BootedCloud, kind: str) -> Host:
    name = cloud.wait_up(kind)["name"]
    return Host(OperatorBackend(shlex.split(cloud.cli("ssh", name, "--print").stdout)))
