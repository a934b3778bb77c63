# SPDX-License-Identifier: Apache-2.0
"""Runs short-lived programs with a fixed argv, a deadline and limits; errors quote the program's stderr."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.service.errors import SystemVmError
from systemvm.service.slowness import scaled_s

_STDERR_BYTES = 2000


@frozen
class ProcessLimits:
    """What the kernel limits a program to, so that a forged header exhausts neither memory nor disk."""

    address_space_bytes: int
    file_bytes: int | None = None
    cpu_s: int | None = None
    open_files: int | None = None

    @property
    def command(self) -> list[str]:
        given = {
            "as": self.address_space_bytes, "fsize": self.file_bytes, "cpu": self.cpu_s,
            "nofile": self.open_files, "core": 0,
        }  # fmt: skip
        # each thread would reserve an arena of 128 MiB, and a busy host would reach the limit (mallopt(3))
        words = ["env", "MALLOC_ARENA_MAX=1", "prlimit"]
        return [*words, *(f"--{name}={value}" for name, value in given.items() if value is not None)]


class CommandError(SystemVmError):
    """A program that failed or took too long."""


async def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    timeout_s: float = 30.0,
    limits: ProcessLimits | None = None,
    within: Sequence[str] = (),
) -> bytes:
    """Run a program and return its standard output; awaits a Deferred. `within` has words in front of it.

    Raises: CommandError when it fails or exceeds its deadline.
    """
    command = [str(argument) for argument in argv]
    title = _title(command)
    command = [*(limits.command if limits else ()), *within, *command]
    return await in_asyncio(_run(command, title, stdin, timeout_s))


async def _run(command: list[str], title: str, stdin: bytes, timeout_s: float) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as e:
        raise CommandError(f"{command[0]} is not installed") from e
    timeout_s = scaled_s(timeout_s)
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(stdin), timeout_s)
    except TimeoutError as e:
        raise CommandError(f"{title} took longer than {timeout_s:g} s") from e
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        text = stderr[-_STDERR_BYTES:].decode(errors="replace").strip()
        raise CommandError(f"{title} failed ({process.returncode}): {text or 'no output'}")
    return stdout


def _title(command: list[str]) -> str:
    """Return the name of a command without its arguments: `qemu-img create`."""
    return " ".join(word for word in command[:5] if not word.startswith("-") and "/" not in word)
