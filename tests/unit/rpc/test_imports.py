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


#: Listens on a socket without a name in the file system.
_LISTENING = """
import socket, sys
from twisted.internet import reactor
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.http.unix import listen_unix, root_only
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind("")
    listening.listen()
    listen_unix(reactor, listening.fileno(), MethodTable("test", "1"), authorize=root_only)
print(*sys.modules)
"""


def _loaded(module: str) -> set[str]:
    return _loaded_by(f"import {module}, sys; print(*sys.modules)")


def _loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["stream.dialer", "stream.listener", "stream.unix_stream", "core.peer", "stream.transport"]
)
def test_the_channel_does_not_import_a_web_server(module: str) -> None:
    assert _loaded(f"systemvm.rpc.{module}").isdisjoint(HEAVY)


def test_listening_for_the_command_line_does_not_import_a_web_server() -> None:
    assert not {name for name in _loaded_by(_LISTENING) if name.startswith(("twisted.web", "twisted.spread"))}


@pytest.mark.parametrize(
    "module", ["http.unix", "http.unix_client", "core.method", "core.frame", "tls.identity"]
)
def test_the_client_of_the_command_line_does_not_import_twisted(module: str) -> None:
    loaded = _loaded(f"systemvm.rpc.{module}")
    assert not {name for name in loaded if name.startswith(("twisted", "OpenSSL", "cryptography"))}
