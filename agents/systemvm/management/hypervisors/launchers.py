# SPDX-License-Identifier: Apache-2.0
"""Who starts QEMU: the launcher on a host, this process itself where there is one user only (tests)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from systemvm.launcher.processes import FIRST_DESCRIPTOR, Processes
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError, call

__all__ = ["FIRST_DESCRIPTOR", "DirectLauncher", "Launcher", "SocketLauncher"]

_TIMEOUT_S = 20.0


class Launcher(Protocol):
    """Starts, finds and ends processes; a pidfd that is answered is the caller's to close."""

    async def start(self, argv: list[str], stderr: int, descriptors: Sequence[int]) -> tuple[int, int]:
        """(pid, pidfd) of a new process, where `descriptors` are 3, 4, …; else HypervisorError."""

    async def find(self, uuid: str) -> tuple[int, int] | None:
        """(pid, pidfd) of the process that runs a machine."""

    async def kill(self, pid: int, uuid: str) -> None:
        """SIGKILL for that machine's process alone; fine when it is gone."""

    async def exit_code(self, pid: int) -> int | None:
        """After its end: negative for a signal, None when nobody knows."""


class DirectLauncher:
    """Processes of this process's own user."""

    def __init__(self) -> None:
        self._processes = Processes()

    async def start(self, argv: list[str], stderr: int, descriptors: Sequence[int]) -> tuple[int, int]:
        try:
            pid = self._processes.start(argv, stderr, descriptors)
        except RefusedError as error:
            raise HypervisorError(error.message, error.hint) from error
        return pid, os.pidfd_open(pid)

    async def find(self, uuid: str) -> tuple[int, int] | None:
        pid = self._processes.find(uuid)
        return (pid, os.pidfd_open(pid)) if pid is not None else None

    async def kill(self, pid: int, uuid: str) -> None:
        self._processes.kill(pid, uuid)

    async def exit_code(self, pid: int) -> int | None:
        return self._processes.exit_code(pid)


class SocketLauncher:
    """Processes of the launcher's user, which is not the daemon's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def opens_kvm(self) -> bool:
        """Whether that user may use /dev/kvm; blocks, for the daemon's start."""
        return bool(self._call({"do": "kvm"}, ())[0]["opens"])

    async def start(self, argv: list[str], stderr: int, descriptors: Sequence[int]) -> tuple[int, int]:
        answer, [pidfd] = await self._ask({"do": "start", "argv": argv}, (stderr, *descriptors))
        return int(answer["pid"]), pidfd

    async def find(self, uuid: str) -> tuple[int, int] | None:
        answer, descriptors = await self._ask({"do": "find", "uuid": uuid})
        return (int(answer["pid"]), descriptors[0]) if answer["pid"] is not None else None

    async def kill(self, pid: int, uuid: str) -> None:
        await self._ask({"do": "kill", "pid": pid, "uuid": uuid})

    async def exit_code(self, pid: int) -> int | None:
        answer, _ = await self._ask({"do": "exit-code", "pid": pid})
        return int(answer["code"]) if answer["code"] is not None else None

    async def _ask(
        self, request: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        return await asyncio.to_thread(self._call, request, descriptors)

    def _call(self, request: dict[str, Any], descriptors: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
        try:
            return call(self._path, request, descriptors, timeout_s=scaled_s(_TIMEOUT_S))
        except RefusedError as error:
            raise HypervisorError(error.message, error.hint) from error
        except OSError as error:
            raise HypervisorError(
                f"the launcher of machines cannot be asked at {self._path}: {error.strerror or error}",
                "is systemvm-launcher.socket active?",
            ) from error
