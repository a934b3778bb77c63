# SPDX-License-Identifier: Apache-2.0
"""Titles, hints and codes of refusals."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.cpvm.websocket import MAX_REASON_BYTES, close_frame
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


def test_the_page_reconnects_after_transient_refusals() -> None:
    script = (files("systemvm.cpvm") / "page/console.js").read_text()
    transient = script[script.index("const TRANSIENT = {") :].partition("};")[0]
    codes = {int(code) for code in re.findall(r"^  (4\d{3}):", transient, re.M)}
    assert codes == {refusal.close_code for refusal in BrowserRefusal if refusal.is_transient}


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
