# SPDX-License-Identifier: Apache-2.0
"""VLANs of a bridge: frames of one reach neither another nor the untagged network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.network_lab import AGENTS, sh
from openvswitch_daemons import OpenVSwitchDaemons
from systemvm.host.layout import Layout
from vlan_probe_facts import EXPECTED

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]
PROBE = Path(__file__).resolve().parents[1] / "vlan_probe.py"


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"vlan{os.getpid()}"
    sh("ip", "netns", "add", name)
    yield name
    sh("ip", "netns", "del", name)


def probe(namespace: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", namespace, sys.executable, PROBE, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(AGENTS)},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_vlans_are_kept_apart_or_refused_where_the_kernel_cannot(namespace: str) -> None:
    sh("ip", "-n", namespace, "link", "add", "probe", "type", "bridge")
    filtering = subprocess.run(
        ["ip", "-n", namespace, "link", "set", "probe", "type", "bridge", "vlan_filtering", "1"],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    done = probe(namespace)
    if filtering.returncode == 0:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == EXPECTED
    else:
        assert "RefusedError" in done.stderr
        assert "this kernel has no VLAN filtering" in done.stderr


def test_open_vswitch_keeps_vlans_apart_whatever_the_kernel_has(namespace: str, tmp_path: Path) -> None:
    switch = OpenVSwitchDaemons(namespace, Layout(tmp_path))
    switch.start()
    try:
        done = probe(namespace, switch.socket)
    finally:
        switch.stop()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == EXPECTED
