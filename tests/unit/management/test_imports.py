# SPDX-License-Identifier: Apache-2.0
"""Modules that the daemon's program imports only to run the daemon, for the time of a start."""

from __future__ import annotations

import subprocess
import sys

_CHECK = """import sys, systemvm.management.__main__
print(*[name for name in sys.argv[1:] if name in sys.modules])"""


def test_what_prepares_or_checks_imports_no_daemon() -> None:
    unwanted = ["systemvm.management.daemon", "sqlalchemy", "alembic", "treq"]
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, *unwanted], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
