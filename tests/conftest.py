# SPDX-License-Identifier: Apache-2.0
"""What every test relies on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# A busy machine is no failure of what is tested.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

if TYPE_CHECKING:
    from booted_cloud import BootedCloud

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "agents"))


#: A booted cloud's waits notice a hang themselves, by lack of any work; pytest's timeout is behind them, and
#: must not end a test whose machines are only slow.
BOOTED_TIMEOUT_SCALE = 6
_TIMEOUT_S = 300.0  # pyproject.toml


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say at once, and by name, what a machine lacks for a test, instead of failing half way through it."""
    for item in items:
        if item.get_closest_marker("cloud"):
            given = item.get_closest_marker("timeout")
            timeout_s = given.args[0] if given is not None else _TIMEOUT_S
            item.add_marker(pytest.mark.timeout(timeout_s * BOOTED_TIMEOUT_SCALE), append=False)
    if os.geteuid() == 0 and shutil.which("ip") and shutil.which("nft"):
        return
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(
                pytest.mark.skip(reason="needs root, iproute2 and nftables for network namespaces")
            )


@pytest.fixture(scope="session")
def cloud() -> Iterator[BootedCloud]:
    """One cloud for the whole run: both system VMs booted, a source to download from, a small store.

    Its root stays in build/ for who wants to see why a test failed; the next run forgets it.
    """
    # imported here: unit tests must not pay for it
    from booted_cloud import BootedCloud
    from systemvm.lab import guest_image
    from systemvm.lab.cloud import Cloud
    from systemvm.lab.plan import LabPlan
    from systemvm.lab.teardown import reset

    plan = LabPlan(
        root=TOP / "build/test-cloud", build=TOP / "build", page_port=_free_port(), console_port=_free_port()
    )
    _unmount(plan.secondary)
    if plan.root.exists():
        reset(plan)
    plan.secondary.mkdir(parents=True)
    # small enough that a test can fill it
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "secondary", plan.secondary], check=True)
    try:
        plan.source_pages.mkdir(parents=True)
        shutil.copy(guest_image.build(plan.build), plan.source_pages / "tiny.qcow2")
        shutil.copy("/usr/lib/ipxe/ipxe.iso", plan.source_pages)
        with Cloud(plan) as lab:
            yield BootedCloud(lab)
    finally:
        _unmount(plan.secondary)


def _free_port() -> int:
    """A port of loopback that nothing listens on, so that two checkouts may be tested at once."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _unmount(place: Path) -> None:
    if os.path.ismount(place):
        subprocess.run(["umount", place], check=True)
