# SPDX-License-Identifier: Apache-2.0
"""Runs a program of the host for one of its helpers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError

_TIMEOUT_S = 20.0
_ERROR_CHARACTERS = 500


def run_program(
    command: Sequence[str], package: str, failure: str, *, stdin: str = "", hint: str = ""
) -> None:
    """Run a program to its end; Debian's `package` has it.

    Raises: RefusedError when it is not installed, does not end in time, or fails (with `failure`, the end of
        its standard error, and the hint).
    """
    program, timeout_s = command[0], scaled_s(_TIMEOUT_S)
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise RefusedError(f"{program} is not installed", f"install Debian's {package}") from error
    except subprocess.TimeoutExpired as error:
        raise RefusedError(f"{failure}: {program} did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise RefusedError(f"{failure}: {done.stderr.strip()[-_ERROR_CHARACTERS:]}", hint)
