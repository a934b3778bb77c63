# SPDX-License-Identifier: Apache-2.0
"""SIGINT ends each program, even when it was started as a script's background job, with SIGINT ignored."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from systemvm.cli.daemon_client import socket_path
from systemvm.host.layout import QEMU_USER, Layout
from systemvm.lab.host_programs import as_user

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]

AGENTS = Path(__file__).resolve().parents[2] / "agents"
#: What a shell without job control does for `PROGRAM &`.
IN_BACKGROUND = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
SERVED = [
    "systemvm.nethelper",
    "systemvm.guestnet",
    "systemvm.launcher",
    "systemvm.ssvm.fetch.main",
    "systemvm.ssvm.store.operations",
    "systemvm.ssvm.store.mount",
]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a listening socket that only the started program serves."""
    path = socket_path(tmp_path)
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        yield made


def command(program: str, root: Path, listener: socket.socket) -> list[str]:
    argv = [sys.executable, "-m", program]
    if program == "systemvm.cli":
        return [*argv, "--root", str(root), "system-vm", "list"]
    if program in ("systemvm.nethelper", "systemvm.guestnet"):
        argv += ["--root", str(root)]
    if program == "systemvm.launcher":
        argv = ["unshare", "--mount", *map(str, as_user(QEMU_USER, [root])), *argv]
    handover = [sys.executable, "-m", "systemvm.lab.socket_activation", f"helper={listener.fileno()}", "--"]
    return [*handover, *argv]


def catches_interrupts(pid: int) -> bool:
    """Return whether the process has its handler of SIGINT, by the kernel's record."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) & 1 << (signal.SIGINT - 1))


@pytest.mark.parametrize("program", [*SERVED, "systemvm.cli"])
def test_sigint_ends_a_program_that_was_started_with_sigint_ignored(
    program: str, tmp_path: Path, listener: socket.socket
) -> None:
    Layout(tmp_path).prepare()
    with ExitStack() as stack:
        process = subprocess.Popen(
            [*IN_BACKGROUND, *command(program, tmp_path, listener)],
            pass_fds=[listener.fileno()],
            env={**os.environ, "PYTHONPATH": str(AGENTS)},
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        while not catches_interrupts(process.pid):  # the test's own time limit ends it
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors
        assert process.returncode == (1 if program == "systemvm.cli" else 0), errors
