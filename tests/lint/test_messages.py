# SPDX-License-Identifier: Apache-2.0
"""docs/reference/messages.md is the output of its generator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_list_of_messages_is_up_to_date() -> None:
    command = [sys.executable, "docs/generate_messages.py", "--check"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
