# SPDX-License-Identifier: Apache-2.0
"""Operations that a mover cannot perform once it is confined, tried in a child process."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

AGENTS = Path(__file__).resolve().parents[2] / "agents"
OPERATIONS = {
    "a socket": "import socket; socket.socket()",
    "a UNIX socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a socket pair": "import socket; socket.socketpair()",
    "a program": "import os; os.execv('/bin/true', ['true'])",
    "a file past its limit": "open(sys.argv[2], 'wb').write(bytes(2 << 20))",
}


def run_confined(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from systemvm.ssvm.mover.seccomp import restrict_process\n"
        f"restrict_process(max_file_bytes=1 << 20)\ntry:\n    {code}\n"
        "except (OSError, MemoryError) as error:\n    print('refused', type(error).__name__)\n"
        "else:\n    print('done')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(AGENTS), str(directory / "file")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no system call numbers known")
@pytest.mark.parametrize("what", OPERATIONS)
def test_refused(what: str, tmp_path: Path) -> None:
    done = run_confined(OPERATIONS[what], tmp_path)
    assert done.stdout.startswith("refused"), done.stdout + done.stderr


def test_memory_is_bounded(tmp_path: Path) -> None:
    assert run_confined("bytearray(1 << 30)", tmp_path).stdout == "refused MemoryError\n"


def test_allowed_operations_work(tmp_path: Path) -> None:
    code = "import threading, hashlib; t = threading.Thread(target=hashlib.sha256); t.start(); t.join()"
    assert run_confined(f"{code}; open(sys.argv[2], 'wb').write(bytes(1 << 20))", tmp_path).stdout == "done\n"
