# SPDX-License-Identifier: Apache-2.0
"""`systemvm ca` and `systemvm certificate`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.rpc.core.errors import RpcError

ROW = {
    "serial": "1f2e", "name": "s-1-VM", "kind": "agent",
    "not_before": "2026-01-01T00:00:00+00:00", "not_after": "2026-01-31T00:00:00+00:00",
}  # fmt: skip
REVOKED = ROW | {"serial": "77aa", "revoked": "2026-01-02T00:00:00+00:00", "reason": "lost"}


def progress(phase: str, text: str, *waits_for: str) -> dict[str, Any]:
    return {"phase": phase, "text": text, "waits_for": list(waits_for)}


STEADY = progress("steady", "one control CA is trusted and signs")
INTRODUCED = progress("introduced", "the next one is being made known", "v-2-VM: it is not connected")

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advance the clock by 100 s at each reading."""
    seconds = itertools.count(0.0, 100.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))


def test_list_shows_serials_names_and_revocations(run: Run) -> None:
    daemon = FakeDaemon(certificate__list={"certificates": [ROW, REVOKED]})
    result = run(daemon, "certificate", "list")
    assert result.exit_code == 0
    cells = result.output.split()
    for row in (ROW, REVOKED):
        assert {row["serial"], row["name"], row["kind"]} <= set(cells)
    assert "lost" in cells
    assert daemon.calls == [("certificate.list", {})]
    assert run(daemon, "certificate", "list", "s-1-VM").exit_code == 0
    assert daemon.calls[-1] == ("certificate.list", {"name": "s-1-VM"})


def test_json_list_is_the_rows_of_the_daemon(run: Run) -> None:
    daemon = FakeDaemon(certificate__list={"certificates": [REVOKED]})
    assert json.loads(run(daemon, "--json", "certificate", "list").output) == [REVOKED]


def test_empty_list_is_one_line(run: Run) -> None:
    result = run(FakeDaemon(certificate__list={"certificates": []}), "certificate", "list")
    assert (result.exit_code, result.output) == (0, "The control CA has not signed a certificate yet.\n")


def test_revoke_sends_the_reason(run: Run) -> None:
    daemon = FakeDaemon(certificate__revoke=REVOKED)
    result = run(daemon, "certificate", "revoke", "77aa", "--reason", "lost")
    assert (result.exit_code, result.output) == (0, "certificate 77aa of s-1-VM is revoked.\n")
    assert daemon.calls == [("certificate.revoke", {"serial": "77aa", "reason": "lost"})]
    run(daemon, "certificate", "revoke", "77aa")
    assert daemon.calls[-1] == ("certificate.revoke", {"serial": "77aa"})


def test_unknown_serial_is_reported_with_a_hint(run: Run) -> None:
    refusal = RpcError.refused(
        "not-found", "there is no certificate with the serial 5", "systemvm certificate list shows"
    )
    result = run(FakeDaemon(certificate__revoke=refusal), "certificate", "revoke", "5")
    assert result.exit_code == 1
    assert "error: there is no certificate with the serial 5" in result.output
    assert "hint:  systemvm certificate list shows" in result.output


def test_rotation_is_followed_to_its_end(run: Run) -> None:
    second = progress("switched", "the new one signs")
    daemon = FakeDaemon(ca__rotate_control=INTRODUCED, ca__control=[INTRODUCED, second, STEADY])
    result = run(daemon, "ca", "rotate-control")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "the next one is being made known",
        "  waits for v-2-VM: it is not connected",
        "the new one signs",
        "one control CA is trusted and signs",
    ]
    assert [method for method, _ in daemon.calls] == ["ca.rotate_control"] + 3 * ["ca.control"]


def test_rotation_that_takes_too_long_reports_what_it_waits_for(run: Run) -> None:
    daemon = FakeDaemon(ca__rotate_control=INTRODUCED, ca__control=INTRODUCED)
    result = run(daemon, "ca", "rotate-control", "--timeout", "250")
    assert result.exit_code == 1
    assert (
        "error: rotation is not complete after 250 s: waiting for v-2-VM: it is not connected"
        in result.output
    )
    assert "hint:  reboot the system VMs that it waits for" in result.output


def test_no_wait_returns_at_once(run: Run) -> None:
    daemon = FakeDaemon(ca__rotate_control=INTRODUCED)
    result = run(daemon, "--json", "ca", "rotate-control", "--no-wait")
    assert json.loads(result.output) == INTRODUCED
    result = run(FakeDaemon(ca__control=INTRODUCED), "ca", "control")
    assert "waits for v-2-VM: it is not connected" in result.output
    assert json.loads(run(FakeDaemon(ca__control=STEADY), "--json", "ca", "control").output) == STEADY
