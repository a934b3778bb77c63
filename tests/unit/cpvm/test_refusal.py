# SPDX-License-Identifier: Apache-2.0
"""Words and numbers of refusals."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from systemvm.cpvm.refusal import Refusal
from systemvm.cpvm.websocket import MAX_REASON_BYTES, close_frame
from systemvm.wire.console import ConsoleRefusal


@pytest.mark.parametrize("refusal", Refusal)
def test_each_can_be_told(refusal: Refusal) -> None:
    assert 4000 <= refusal.close_code <= 4999
    assert 400 <= refusal.http_status < 600
    assert len(refusal.title.encode()) <= MAX_REASON_BYTES
    assert close_frame(refusal.close_code, refusal.title).endswith(refusal.title.encode())
    assert refusal.hint.endswith(".")


def test_codes_are_apart() -> None:
    assert len({refusal.close_code for refusal in Refusal}) == len(Refusal)


@pytest.mark.parametrize("reason", ConsoleRefusal)
def test_each_of_the_daemons_reasons_has_words_of_its_own(reason: ConsoleRefusal) -> None:
    assert Refusal.from_daemon(reason.value).name == reason.name


def test_the_page_waits_for_what_passes_by_itself() -> None:
    script = (files("systemvm.cpvm") / "page/console.js").read_text()
    waits = script[script.index("const WAITS = {") :].partition("};")[0]
    codes = {int(code) for code in re.findall(r"^  (4\d{3}):", waits, re.M)}
    assert codes == {refusal.close_code for refusal in Refusal if refusal.passes_by_itself}


@pytest.mark.parametrize("reason", ConsoleRefusal)
def test_agents_of_the_first_release_know_what_is_sent_as_reason(reason: ConsoleRefusal) -> None:
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
def test_unknown_reasons_keep_out(reason: object) -> None:
    assert Refusal.from_daemon(reason) is Refusal.TOKEN_UNKNOWN
