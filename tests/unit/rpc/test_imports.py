# SPDX-License-Identifier: Apache-2.0
"""Modules that must not be imported, because imports slow every emulated boot."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "twisted.web",
    "twisted.internet.endpoints",
    "twisted.internet.ssl",
    "service_identity",
    "treq",
)


def _loaded(module: str) -> set[str]:
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["stream.dialer", "stream.listener", "stream.unix_stream", "core.peer", "stream.transport"]
)
def test_the_channel_does_not_import_a_web_server(module: str) -> None:
    assert _loaded(f"systemvm.rpc.{module}").isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "module", ["http.unix", "http.unix_client", "core.method", "core.frame", "tls.identity"]
)
def test_the_client_of_the_command_line_does_not_import_twisted(module: str) -> None:
    loaded = _loaded(f"systemvm.rpc.{module}")
    assert not {name for name in loaded if name.startswith(("twisted", "OpenSSL", "cryptography"))}
