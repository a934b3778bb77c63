# SPDX-License-Identifier: Apache-2.0
"""Titles, hints and codes of refusals."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.cpvm.websocket import MAX_REASON_BYTES, CloseCode, close_frame
from systemvm.wire.console import ConsoleRefusal


@pytest.mark.parametrize("refusal", BrowserRefusal)
def test_each_fits_a_close_frame_and_a_status(refusal: BrowserRefusal) -> None:
    assert 4000 <= refusal.close_code <= 4999
    assert 400 <= refusal.http_status < 600
    assert len(refusal.title.encode()) <= MAX_REASON_BYTES
    assert close_frame(refusal.close_code, refusal.title).endswith(refusal.title.encode())
    assert refusal.hint.endswith(".")


def test_close_codes_are_unique() -> None:
    assert len({refusal.close_code for refusal in BrowserRefusal}) == len(BrowserRefusal)


@pytest.mark.parametrize("reason", ConsoleRefusal)
def test_each_reason_of_the_daemon_has_its_own_refusal(reason: ConsoleRefusal) -> None:
    assert BrowserRefusal.from_daemon(reason.value).name == reason.name


SCRIPT = (files("systemvm.cpvm") / "page/console.js").read_text()
#: Reported by browsers and never sent, so the Python enums do not have it.
ABNORMAL_CLOSURE = 1006


def table(name: str) -> str:
    """Return the source of one object in the page's script."""
    return SCRIPT[SCRIPT.index(f"const {name} = {{") :].partition("};")[0]


def test_the_page_reconnects_after_transient_refusals() -> None:
    names = re.findall(r"^  \[CloseCode\.(\w+)\]:", table("TRANSIENT"), re.M)
    assert {name for name in names if name in BrowserRefusal.__members__} == {
        refusal.name for refusal in BrowserRefusal if refusal.is_transient
    }


def test_the_page_has_the_close_codes_of_the_server() -> None:
    codes = {name: int(code) for name, code in re.findall(r"^  (\w+): (\d+),$", table("CloseCode"), re.M)}
    of_server = {refusal.name: refusal.close_code for refusal in BrowserRefusal} | {
        code.name: int(code) for code in CloseCode
    }
    assert codes.pop("ABNORMAL_CLOSURE") == ABNORMAL_CLOSURE
    assert codes.items() <= of_server.items()
    assert {refusal.name for refusal in BrowserRefusal if refusal.is_transient} <= codes.keys()
    used = set(re.findall(r"CloseCode\.(\w+)", SCRIPT))
    assert used == {*codes, "ABNORMAL_CLOSURE"}


def test_the_page_compares_codes_only_by_name() -> None:
    numbers = re.findall(r"\b[14]\d{3}\b", SCRIPT.replace(table("CloseCode"), ""))
    assert numbers == ["4000", "4500"], "FIRST_REFUSAL and FIRST_SERVER_FAULT"


def test_close_codes_of_server_faults_begin_at_4500() -> None:
    for refusal in BrowserRefusal:
        assert (refusal.close_code >= 4500) == (refusal.http_status >= 500)


@pytest.mark.parametrize("reason", ConsoleRefusal)
def test_each_reason_has_a_fallback_of_the_first_release(reason: ConsoleRefusal) -> None:
    first = {
        "token_unknown",
        "token_used",
        "token_expired",
        "session_ended",
        "machine_stopped",
        "machine_gone",
    }
    assert reason.fallback.value in first


@pytest.mark.parametrize("reason", ["", "of the future", None, 3])
def test_unknown_reasons_are_refusals(reason: object) -> None:
    assert BrowserRefusal.from_daemon(reason) is BrowserRefusal.TOKEN_UNKNOWN
