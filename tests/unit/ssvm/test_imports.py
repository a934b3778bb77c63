# SPDX-License-Identifier: Apache-2.0
"""Modules that a process of the SSVM must not import, for boot time and for process boundaries."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CHECK = """import importlib, sys
importlib.import_module(sys.argv[1])
print(*[name for name in sys.argv[2:] if name in sys.modules])"""


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("systemvm.ssvm.agent.role", ("treq", "twisted.web", "systemvm.ssvm.fetch", "systemvm.ssvm.mover")),
        ("systemvm.ssvm.mover.forkserver", ("treq", "twisted", "systemvm.ssvm.fetch", "systemvm.ssvm.agent")),
        ("systemvm.ssvm.store.operations", ("treq", "twisted", "systemvm.ssvm.fetch", "systemvm.ssvm.agent")),
        ("systemvm.ssvm.store.mount", ("treq", "twisted", "systemvm.ssvm.fetch", "systemvm.ssvm.agent")),
        (
            "systemvm.ssvm.fetch.service",
            ("systemvm.ssvm.agent", "systemvm.ssvm.mover", "systemvm.ssvm.store"),
        ),
    ],
)
def test_a_process_imports_nothing_of_another(module: str, unwanted: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, module, *unwanted], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
