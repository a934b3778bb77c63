# SPDX-License-Identifier: Apache-2.0
"""Short-lived programs: a fixed argv, a deadline, limits, and an error that quotes what the program said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.service.errors import SystemVmError
from systemvm.service.slowness import scaled_s

_SAID_BYTES = 2000


class CommandError(SystemVmError):
    """A program that failed or took too long."""


async def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    timeout_s: float = 30.0,
    address_space_bytes: int | None = None,
) -> bytes:
    """The standard output of a program; CommandError when it fails. Awaits a Deferred."""
    words = [str(word) for word in argv]
    if address_space_bytes is not None:
        # a parser of strangers' files gets a ceiling, so that a lying header cannot take the host's memory
        words = ["prlimit", f"--as={address_space_bytes}", "--core=0", *words]
    return await in_asyncio(_run(words, stdin, timeout_s))


async def _run(words: list[str], stdin: bytes, timeout_s: float) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as e:
        raise CommandError(f"{words[0]} is not installed") from e
    timeout_s = scaled_s(timeout_s)
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(stdin), timeout_s)
    except TimeoutError as e:
        raise CommandError(f"{_title(words)} took longer than {timeout_s:g} s") from e
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        said = stderr[-_SAID_BYTES:].decode(errors="replace").strip()
        raise CommandError(f"{_title(words)} failed ({process.returncode}): {said or 'it said nothing'}")
    return stdout


def _title(words: list[str]) -> str:
    """`qemu-img create`, without the many arguments."""
    return " ".join(
        word for word in words[:5] if not word.startswith("-") and "/" not in word and word != "prlimit"
    )
