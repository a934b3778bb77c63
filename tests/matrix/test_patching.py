# SPDX-License-Identifier: Apache-2.0
"""Failed patches of a booted SSVM: its old agent continues."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from booted_cloud import BootedCloud, wait_for
from explaining import SSVM
from other_code import LINK, agent_version, change_version, identity, other_code
from systemvm.service.slowness import scaled_s

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

KILL_THE_HELPER = """for one in /proc/[0-9]*; do
    tr '\\0' ' ' < $one/cmdline | grep -q '^/usr/bin/python3 -IS .*/patch.py ' && kill -9 ${one#/proc/}
done; true"""


@pytest.fixture
def code(cloud: BootedCloud) -> Iterator[Path]:
    with other_code(cloud) as place:
        yield place


def test_a_patch_whose_agent_does_not_start_is_reverted_with_its_reason(
    cloud: BootedCloud, code: Path
) -> None:
    name = cloud.wait_up(SSVM)["name"]
    before = agent_version(cloud, name), cloud.ssh(name, LINK), identity(cloud, name)
    change_version(code, "9.9.2", crash='raise RuntimeError("this version is broken")')
    failed = cloud.cli("system-vm", "patch", name, check=False)
    assert failed.returncode == 1
    assert "continues with its old agent" in failed.stderr
    assert "this version is broken" in failed.stderr
    cloud.wait_up(SSVM)
    assert (agent_version(cloud, name), cloud.ssh(name, LINK), identity(cloud, name)) == before
    assert "9.9.2" not in cloud.ssh(name, "ls -A /opt/systemvm; cat /proc/self/mountinfo")
    assert cloud.ssh(name, "systemctl list-units --failed --no-legend --plain").strip() == ""


def test_a_patch_whose_helper_is_killed_leaves_the_old_agent(cloud: BootedCloud, code: Path) -> None:
    name = cloud.wait_up(SSVM)["name"]
    before = agent_version(cloud, name), cloud.ssh(name, LINK)
    # an agent that never comes Up keeps its trial open for as long as the test needs
    service = code / "guest/service.py"
    service.write_text(service.read_text().replace("self._dialer.start()", "pass", 1))
    change_version(code, "9.9.3")
    patching = subprocess.Popen(  # runs during this test
        [Path(sys.executable).with_name("systemvm"), "--root", cloud.lab.root, "system-vm", "patch", name],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(
            "the trial",
            # polled seldom, and a failed login is not an error: a guest that compiles has little time for ssh
            lambda: "/opt/systemvm" in cloud.cli("ssh", name, "cat /proc/self/mountinfo", check=False).stdout,
            every_s=3,
        )
        cloud.ssh(name, KILL_THE_HELPER)
        _, errors = patching.communicate(timeout=scaled_s(400.0))
    finally:
        patching.kill()
    assert patching.returncode == 1
    assert "continues with its old agent" in errors, errors
    cloud.wait_up(SSVM)
    assert (agent_version(cloud, name), cloud.ssh(name, LINK)) == before
    assert "/opt/" not in cloud.ssh(name, "cat /proc/self/mountinfo")
