# SPDX-License-Identifier: Apache-2.0
"""The daemon's explanation, as the lab prints it during a wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from systemvm.lab import diagnosis
from systemvm.rpc.core.errors import DEADLINE, RpcError

SOCKET = Path("managementd.sock")
ANSWER = {
    "state": "Running",
    "agentstate": "Alert",
    "reason": "the NFS server 10.12.0.2 does not answer",
    "hint": "is it running?",
    "pending": "inside the machine",
    "looked_at": [
        {"what": "hypervisor", "said": "running"},
        {"what": "journal", "said": "1\n2\n3\n4\n5\n6\n7\n8"},
    ],
}  # fmt: skip


def test_reason_hint_and_the_end_of_each_finding_are_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def answer(*arguments: Any, **named: Any) -> dict[str, Any]:
        calls.append(arguments)
        return ANSWER

    monkeypatch.setattr(diagnosis, "unix_call", answer)
    assert diagnosis.why(SOCKET, "s-1-VM").splitlines() == [
        "s-1-VM is Running, its agent Alert",
        "reason: the NFS server 10.12.0.2 does not answer",
        "hint: is it running?",
        "hypervisor: running",
        *("journal: 3", "  4", "  5", "  6", "  7", "  8"),
        "still checking inside the machine",
    ]
    assert calls == [(SOCKET, "system_vm.why", {"name": "s-1-VM"})]


def test_a_busy_daemon_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*arguments: Any, **named: Any) -> None:
        raise RpcError(DEADLINE, "no answer within 30 s")

    monkeypatch.setattr(diagnosis, "unix_call", late)
    text = diagnosis.why(SOCKET, "s-1-VM")
    assert text == 's-1-VM: no answer within 30 s; run "systemvm system-vm why s-1-VM"'


def test_a_template_is_described_with_and_without_a_status() -> None:
    assert list(diagnosis.of_template({"name": "tiny", "status": "", "hint": "busy"})) == [
        "tiny: the download has not started", "hint: busy",
    ]  # fmt: skip
    assert list(diagnosis.of_template({"name": "tiny", "status": "50% Downloaded"})) == [
        "tiny: 50% Downloaded"
    ]
