# SPDX-License-Identifier: Apache-2.0
"""What a console proxy must not import: each module takes memory and time of an emulated start."""

from __future__ import annotations

import subprocess
import sys


def test_a_console_proxy_imports_no_messages_of_storage_and_no_web_server() -> None:
    code = "import systemvm.cpvm.role, systemvm.guest.service, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    unwanted = {"systemvm.wire.storage", "twisted.web.server", "systemvm.ssvm", "systemvm.management"}
    assert unwanted.isdisjoint(done.stdout.split())
