# SPDX-License-Identifier: Apache-2.0
"""Fixtures and collection rules for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# A slow example on a busy machine is not a defect of the tested code.
# `make check` tries fewer examples than `make test`.
_EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "40"))
hypothesis.settings.register_profile("untimed", deadline=None, max_examples=_EXAMPLES)
hypothesis.settings.load_profile("untimed")

if TYPE_CHECKING:
    from booted_cloud import BootedCloud

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "agents"))


#: Waits on a booted cloud detect a hang by missing progress. pytest's timeout only guards against a hang of
#: the test itself, and must not end a test whose machines are slow.
BOOTED_TIMEOUT_SCALE = 6
_TIMEOUT_S = 300.0  # pyproject.toml
#: Tests of real processes take several times as long on a busy machine, and this is no failure of theirs.
BUSY_TIMEOUT_SCALE = 2


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the tests' reactor count as the daemon's does: a step of the wall clock reorders no calls."""
    if session.config.pluginmanager.hasplugin("twisted"):
        from twisted.internet import reactor

        from systemvm.service.monotonic_clock import use_monotonic_clock

        use_monotonic_clock(reactor)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scale timeouts of the booted cloud, and skip tests of namespaces where they cannot be made."""
    for item in items:
        given = item.get_closest_marker("timeout")
        timeout_s = given.args[0] if given is not None else _TIMEOUT_S
        if not timeout_s:
            continue  # none
        if item.get_closest_marker("cloud"):
            item.add_marker(pytest.mark.timeout(timeout_s * BOOTED_TIMEOUT_SCALE), append=False)
        elif TOP / "tests/unit" not in item.path.parents:
            timeout_s = BUSY_TIMEOUT_SCALE * max(timeout_s, _TIMEOUT_S)
            item.add_marker(pytest.mark.timeout(timeout_s), append=False)
    if os.geteuid() == 0 and shutil.which("ip") and shutil.which("nft"):
        return
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(
                pytest.mark.skip(reason="needs root, iproute2 and nftables for network namespaces")
            )


@pytest.fixture(scope="session")
def cloud() -> Iterator[BootedCloud]:
    """Start one cloud for the test run: both system VMs, a source to download from, a small store.

    Its root stays in build/ so that a failure can be examined; the next run removes it.
    """
    # imported here, because unit tests do not need it
    from booted_cloud import BootedCloud
    from free_ports import plan_with_free_ports
    from systemvm.lab import guest_image
    from systemvm.lab.cloud import Cloud
    from systemvm.lab.teardown import reset

    plan = plan_with_free_ports(TOP / "build/test-cloud", TOP / "build")
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


def _unmount(place: Path) -> None:
    if os.path.ismount(place):
        subprocess.run(["umount", place], check=True)
