# SPDX-License-Identifier: Apache-2.0
"""The control channel with `MemoryDenyWriteExecute=yes` and epoll, as the agents' units run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rpc_pki import TestAuthority

CHILD = Path(__file__).with_name("rpc_sandboxed_pair.py")
MDWE_UNSUPPORTED = 77


def test_mutual_tls_needs_no_executable_memory(tmp_path: Path) -> None:
    authority = TestAuthority()
    agent, daemon = tmp_path / "agent.pem", tmp_path / "daemon.pem"
    agent.write_bytes(authority.agent().to_pem_bundle())
    daemon.write_bytes(authority.daemon().to_pem_bundle())
    done = subprocess.run(
        [sys.executable, CHILD, agent, daemon], capture_output=True, text=True, timeout=240, check=False
    )
    if done.returncode == MDWE_UNSUPPORTED:
        pytest.skip("this kernel is older than 6.3: it cannot forbid executable memory")
    assert done.returncode == 0, done.stderr
    assert "EPollReactor" in done.stdout
    assert "Pong(sent_unix_s=1.0, clock_unix_s=2.0)" in done.stdout
