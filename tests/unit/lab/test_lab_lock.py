# SPDX-License-Identifier: Apache-2.0
"""The lock that allows one lab per root directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from systemvm.lab.errors import LabError
from systemvm.lab.lab_lock import LabLock

HOLD = """
import sys, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
from pathlib import Path
from systemvm.lab.lab_lock import LabLock
lock = LabLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
signal.sigwait({signal.SIGTERM})
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab" / "lock"


def test_the_second_process_is_refused_with_the_pid_of_the_first(path: Path) -> None:
    first, second = LabLock(path), LabLock(path)
    first.acquire()
    with pytest.raises(LabError, match=rf"\(pid {os.getpid()}\)"):
        second.acquire()
    assert not second.is_held
    first.release()
    second.acquire()
    second.release()
    assert LabLock(path).holder() is None


def test_a_lock_that_was_never_acquired_has_no_holder(path: Path) -> None:
    assert LabLock(path).holder() is None
    LabLock(path).terminate_holder(1.0)


def test_the_holder_is_terminated_and_awaited(path: Path) -> None:
    agents = Path(__file__).resolve().parents[3] / "agents"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(agents)},
    )  # fmt: skip
    try:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        assert LabLock(path).holder() == holder.pid
        LabLock(path).terminate_holder(20.0)
        assert holder.wait(10) == 0
        assert LabLock(path).holder() is None
    finally:
        holder.kill()
        holder.wait()
