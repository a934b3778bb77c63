# SPDX-License-Identifier: Apache-2.0
"""What an SSVM's image can do: code of a patch does not bring the sockets that it needs."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.internet.task import Clock

from systemvm.guest.context import AgentContext
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.method import MethodTable
from systemvm.ssvm.agent.role import install
from systemvm.ssvm.paths import Paths
from systemvm.wire.agent import Capability
from systemvm.wire.role import Role


def test_an_ssvm_can_do_what_its_image_has_sockets_for(tmp_path: Path) -> None:
    context = AgentContext(
        Clock(), GuestPaths(), "s-1-VM", Role.SSVM, {}, MethodTable("agent", "1"), {}, lambda: None
    )
    assert context.find_capabilities() == []
    paths = Paths(serve_socket=tmp_path / "serve.sock", upload_socket=tmp_path / "upload.sock")
    install(context, paths)
    assert context.find_capabilities() == [], "as after the patch of an old image"
    paths.upload_socket.touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.serve_socket))
        assert context.find_capabilities() == [Capability.LINKS], "a file is no socket"
    paths.upload_socket.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.upload_socket))
        assert context.find_capabilities() == [Capability.LINKS, Capability.UPLOADS]
