# SPDX-License-Identifier: Apache-2.0
"""What the console's part of the agent reports to the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.cpvm.role import NOVNC, REPORTS_AT_ONCE, ConsoleRole
from systemvm.guest.context import AgentContext
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_CLOSED, ConsoleClosed
from systemvm.wire.role import Role


class SlowDaemon:
    """A daemon that answers when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, Deferred[Any]]] = []
        self.reported: list[str] = []

    async def call(self, method: str, params: ConsoleClosed, **options: Any) -> Any:
        assert method == CONSOLE_CLOSED
        answer: Deferred[Any] = Deferred()
        self.waiting.append((params.session_id, answer))
        return await answer

    def answer_all(self) -> None:
        waiting, self.waiting = self.waiting, []
        for session_id, answer in waiting:
            self.reported.append(session_id)
            answer.callback(Acknowledgement())


def test_ends_of_many_sessions_leave_room_for_other_calls(tmp_path: Path) -> None:
    core = tmp_path / NOVNC / "core"
    core.mkdir(parents=True)
    (core / "rfb.js").write_text("")
    daemon = SlowDaemon()
    context = AgentContext(
        reactor=Clock(),
        paths=GuestPaths(tmp_path),
        name="v-2-VM",
        role=Role.CPVM,
        boot={},
        methods=MethodTable("test", "0"),
        sockets={},
        find_peer=lambda: cast(Peer, daemon),
    )
    role = ConsoleRole(context)
    sessions = [str(number) for number in range(5 * REPORTS_AT_ONCE)]
    for session_id in sessions:
        role._closed(ConsoleClosed(session_id, "the browser left"))
    assert len(daemon.waiting) == REPORTS_AT_ONCE
    while daemon.waiting:
        assert len(daemon.waiting) <= REPORTS_AT_ONCE
        daemon.answer_all()
    assert daemon.reported == sessions
