# SPDX-License-Identifier: Apache-2.0
"""The mount helper of `make run`: what it mounts is seen by daemon and QEMU, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.daemon_lab import until
from systemvm.host.layout import DAEMON_USER
from systemvm.lab import children, pool_mounts
from systemvm.lab.children import ChildProcess
from systemvm.lab.host_programs import MOUNT_CAPABILITIES, HostProgram, as_user, helper_sockets
from systemvm.lab.plan import LabPlan
from systemvm.service.mountinfo import find_mount, mounts_below

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

#: Numbers of capabilities (capabilities(7)).
NUMBERS = {"chown": 0, "dac_override": 1, "fowner": 3, "net_bind_service": 10, "sys_admin": 21}
_ASK = """
import sys; from pathlib import Path; from systemvm.service.unix_calls import RefusedError, call
try:
    call(Path(sys.argv[1]), {"do": "mount", "pool": sys.argv[2], "server": "127.0.0.1", "path": "/export"})
except RefusedError as refused:
    print(refused.reason)
"""
Start = Callable[..., ChildProcess]


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[LabPlan]:
    made = LabPlan(tmp_path / "root", tmp_path, 0, 0, 0)
    made.layout.prepare()
    pool_mounts.share(made)
    yield made
    pool_mounts.release(made)


@pytest.fixture
def start(plan: LabPlan, tmp_path: Path) -> Iterator[Start]:
    namespace = f"svm-mnt-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True, timeout=60)
    subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True, timeout=60)
    started: list[ChildProcess] = []

    def start_one(command: list[str | Path], **more: object) -> ChildProcess:
        child = children.start("program", namespace, command, tmp_path / "log", **more)  # type: ignore[arg-type]
        started.append(child)
        return child

    yield start_one
    for child in started:
        child.stop()
    subprocess.run(["ip", "netns", "del", namespace], check=True, timeout=60)


def mounts_of(child: ChildProcess | None) -> str:
    return Path(f"/proc/{child.process.pid if child else 'self'}/mountinfo").read_text()


def test_what_the_mount_helper_mounts_is_seen_in_other_mount_namespaces(
    plan: LabPlan, start: Start, tmp_path: Path
) -> None:
    place = plan.layout.mounts / str(uuid.uuid4())
    (tmp_path / "export").mkdir()
    place.mkdir()
    daemon = start([*as_user(DAEMON_USER, [plan.root]), "sleep", "1000"])
    until(
        lambda: Path(f"/proc/{daemon.process.pid}/comm").read_text() == "sleep\n", "the program has started"
    )
    assert find_mount(mounts_of(daemon), place) is None
    helper = start(["mount", "--bind", tmp_path / "export", place], own_mounts=False)
    assert helper.process.wait(60) == 0
    assert find_mount(mounts_of(daemon), place) is not None
    pool_mounts.release(plan)
    assert mounts_below(mounts_of(None), plan.root) == []
    assert mounts_below(mounts_of(daemon), plan.layout.mounts) == []


def test_the_mount_helper_of_a_lab_has_five_capabilities_and_reports_why_it_cannot_mount(
    plan: LabPlan, start: Start
) -> None:
    program = HostProgram.MOUNT_HELPER
    sockets = helper_sockets(plan.layout)
    helper = start(
        program.argv(plan.layout), sockets={"helper": sockets[program]}, own_mounts=program.own_mounts
    )
    for listener in sockets.values():
        listener.close()
    asked = subprocess.run(
        [
            *("unshare", "--mount", *map(str, as_user(DAEMON_USER, [plan.root]))),
            *(sys.executable, "-c", _ASK, str(plan.layout.mount_socket), str(uuid.uuid4())),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert asked.stdout == "nfs_unreachable\n", asked.stderr
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{helper.process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    expected = sum(1 << NUMBERS[name] for name in MOUNT_CAPABILITIES)
    assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")] == [expected] * 3
    assert status["NoNewPrivs"] == "1"
