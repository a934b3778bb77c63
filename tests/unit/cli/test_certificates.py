# SPDX-License-Identifier: Apache-2.0
"""`systemvm ca` and `systemvm certificate` against a daemon that answers from a table."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from systemvm.cli import certificates as cli_certificates
from systemvm.cli import daemon_client as cli_daemon
from systemvm.cli.__main__ import main
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


class Answers:
    """By method; a list one by one, its last for ever; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self._answers = {name.replace("__", "."): answer for name, answer in answers.items()}
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, path: str, method: str, params: dict[str, Any], timeout_s: float = 30) -> Any:
        self.calls.append((method, params))
        answer = self._answers[method]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def invoke(answers: Answers, *words: str) -> Result:
        seconds = itertools.count(0.0, 100.0)
        monkeypatch.setattr(cli_daemon, "unix_call", answers)
        monkeypatch.setattr(cli_certificates.time, "sleep", lambda _: None)
        monkeypatch.setattr(cli_certificates.time, "monotonic", lambda: next(seconds))
        return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["--root", "/nowhere", *words])

    return invoke


def test_certificates_are_listed_with_what_became_of_them(run: Run) -> None:
    answers = Answers(certificate__list={"certificates": [ROW, REVOKED]})
    result = run(answers, "certificate", "list")
    assert result.exit_code == 0
    words = result.output.split()
    for row in (ROW, REVOKED):
        assert {row["serial"], row["name"], row["kind"]} <= set(words)
    assert "lost" in words
    assert answers.calls == [("certificate.list", {})]
    assert run(answers, "certificate", "list", "s-1-VM").exit_code == 0
    assert answers.calls[-1] == ("certificate.list", {"name": "s-1-VM"})


def test_as_json_they_are_the_daemons_records(run: Run) -> None:
    answers = Answers(certificate__list={"certificates": [REVOKED]})
    assert json.loads(run(answers, "--json", "certificate", "list").output) == [REVOKED]


def test_no_certificate_is_a_line_of_its_own(run: Run) -> None:
    result = run(Answers(certificate__list={"certificates": []}), "certificate", "list")
    assert (result.exit_code, result.output) == (0, "No certificate was signed yet.\n")


def test_one_is_revoked_with_a_reason(run: Run) -> None:
    answers = Answers(certificate__revoke=REVOKED)
    result = run(answers, "certificate", "revoke", "77aa", "--reason", "lost")
    assert (result.exit_code, result.output) == (0, "77aa of s-1-VM is revoked.\n")
    assert answers.calls == [("certificate.revoke", {"serial": "77aa", "reason": "lost"})]
    run(answers, "certificate", "revoke", "77aa")
    assert answers.calls[-1] == ("certificate.revoke", {"serial": "77aa"})


def test_an_unknown_serial_is_refused_with_a_hint(run: Run) -> None:
    refusal = RpcError.refused(
        "not-found", "there is no certificate with the serial 5", "systemvm certificate list shows"
    )
    result = run(Answers(certificate__revoke=refusal), "certificate", "revoke", "5")
    assert result.exit_code == 1
    assert "error: there is no certificate with the serial 5" in result.output
    assert "hint:  systemvm certificate list shows" in result.output


def test_a_replacement_of_the_ca_is_followed_to_its_end(run: Run) -> None:
    second = progress("switched", "the new one signs")
    answers = Answers(ca__rotate_control=INTRODUCED, ca__control=[INTRODUCED, second, STEADY])
    result = run(answers, "ca", "rotate-control")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "the next one is being made known",
        "  waits for v-2-VM: it is not connected",
        "the new one signs",
        "one control CA is trusted and signs",
    ]
    assert [method for method, _ in answers.calls] == ["ca.rotate_control"] + 3 * ["ca.control"]


def test_a_replacement_that_takes_too_long_names_whom_it_waits_for(run: Run) -> None:
    answers = Answers(ca__rotate_control=INTRODUCED, ca__control=INTRODUCED)
    result = run(answers, "ca", "rotate-control", "--timeout", "250")
    assert result.exit_code == 1
    assert "error: not done in 250 s, it waits for v-2-VM: it is not connected" in result.output
    assert "hint:  It goes on by itself" in result.output


def test_a_replacement_need_not_be_waited_for(run: Run) -> None:
    answers = Answers(ca__rotate_control=INTRODUCED)
    result = run(answers, "--json", "ca", "rotate-control", "--no-wait")
    assert json.loads(result.output) == INTRODUCED
    result = run(Answers(ca__control=INTRODUCED), "ca", "control")
    assert "waits for v-2-VM: it is not connected" in result.output
    assert json.loads(run(Answers(ca__control=STEADY), "--json", "ca", "control").output) == STEADY


@pytest.mark.parametrize("words", [("ca",), ("certificate",), ("ca", "rotate-control")])
def test_help_teaches(run: Run, words: tuple[str, ...]) -> None:
    result = run(Answers(), *words, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
