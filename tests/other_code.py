# SPDX-License-Identifier: Apache-2.0
"""Changed agent code for patches of running system VMs, and what a patch must not touch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from booted_cloud import TOP, BootedCloud

LINK = "readlink /opt/systemvm/current"


@contextmanager
def other_code(cloud: BootedCloud) -> Iterator[Path]:
    """Give the daemon a copy of the agents' code that a test can change, to patch with."""
    directory = cloud.plan.layout.agent_code
    shutil.copytree(
        TOP / "agents/systemvm", directory / "systemvm", ignore=shutil.ignore_patterns("__pycache__")
    )
    try:
        yield directory / "systemvm"
    finally:
        shutil.rmtree(directory)


def change_version(code: Path, version: str, crash: str = "") -> None:
    file = code / "guest/version.py"
    file.write_text(re.sub('VERSION = ".*"', f'VERSION = "{version}"', file.read_text()) + f"\n{crash}\n")


def agent_version(cloud: BootedCloud, name: str) -> str:
    """Return the version that the running process reports."""
    answer: dict[str, Any] = cloud.cli_json("rpc", "call", name, "rpc.discover")
    return str(answer["info"]["version"])


def identity(cloud: BootedCloud, name: str) -> str:
    return cloud.ssh(name, "sha256sum /run/systemvm-agent/identity.pem; stat -c %U /run/systemvm-agent")
