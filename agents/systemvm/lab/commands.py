# SPDX-License-Identifier: Apache-2.0
"""Runs the commands that make the lab."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from systemvm.lab.errors import LabError
from systemvm.service.slowness import scaled_s


def run(
    *command: str | Path,
    stdin: str | None = None,
    timeout_s: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command until it ends and return its output; `timeout_s` is scaled on slow machines.

    Raises: LabError with the command's error output when it fails.
    """
    try:
        done = subprocess.run(
            [str(argument) for argument in command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=scaled_s(timeout_s),
            check=False,
            env=environment,
        )
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"cannot run {command[0]}: {error}") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
