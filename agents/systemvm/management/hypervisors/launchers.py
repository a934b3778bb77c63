# SPDX-License-Identifier: Apache-2.0
"""Ways to start QEMU: through the launcher on a host, or as children of this process (tests)."""

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

__all__ = ["FIRST_DESCRIPTOR", "DirectLauncher", "QemuLauncher", "SocketLauncher"]

_TIMEOUT_S = 20.0


class QemuLauncher(Protocol):
    """Starts, finds and ends processes; the caller closes the pidfds that it gets."""

    async def start(self, argv: list[str], stderr: int, descriptors: Sequence[int]) -> tuple[int, int]:
        """Start a process whose descriptors 3, 4, … are `descriptors`, and return (pid, pidfd).

        Raises: HypervisorError when it cannot be started.
        """

    async def find(self, uuid: str) -> tuple[int, int] | None:
        """Return (pid, pidfd) of the process that runs a machine, or None."""

    async def kill(self, pid: int, uuid: str) -> None:
        """Send SIGKILL to the process if it runs that machine; does nothing when it has ended."""

    async def exit_code(self, pid: int) -> int | None:
        """Return the exit code after the end, negative for a signal, None when it is unknown."""


class DirectLauncher:
    """Starts processes as this process's own user."""

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
    """Has the launcher start processes as its own user, which is not the daemon's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def opens_kvm(self) -> bool:
        """Return whether that user can open /dev/kvm; blocks, so call it only during the daemon's start."""
        return bool(self._call_now({"do": "kvm"}, ())[0]["opens"])

    async def start(self, argv: list[str], stderr: int, descriptors: Sequence[int]) -> tuple[int, int]:
        answer, [pidfd] = await self._call({"do": "start", "argv": argv}, (stderr, *descriptors))
        return int(answer["pid"]), pidfd

    async def find(self, uuid: str) -> tuple[int, int] | None:
        answer, descriptors = await self._call({"do": "find", "uuid": uuid})
        return (int(answer["pid"]), descriptors[0]) if answer["pid"] is not None else None

    async def kill(self, pid: int, uuid: str) -> None:
        await self._call({"do": "kill", "pid": pid, "uuid": uuid})

    async def exit_code(self, pid: int) -> int | None:
        answer, _ = await self._call({"do": "exit-code", "pid": pid})
        return int(answer["code"]) if answer["code"] is not None else None

    async def _call(
        self, request: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        return await asyncio.to_thread(self._call_now, request, descriptors)

    def _call_now(
        self, request: dict[str, Any], descriptors: Sequence[int]
    ) -> tuple[dict[str, Any], list[int]]:
        try:
            return call(self._path, request, descriptors, timeout_s=scaled_s(_TIMEOUT_S))
        except RefusedError as error:
            raise HypervisorError(error.message, error.hint) from error
        except OSError as error:
            raise HypervisorError(
                f"launcher does not answer at {self._path}: {error.strerror or error}",
                "check that systemvm-launcher.socket is active",
            ) from error
