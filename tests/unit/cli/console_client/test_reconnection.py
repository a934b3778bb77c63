# SPDX-License-Identifier: Apache-2.0
"""When the command line connects to a console again, and how its end is explained."""

from __future__ import annotations

import pytest

from systemvm.cli.console_client.connection import LOST, ConnectionEnd
from systemvm.cli.console_client.reconnection import LONGEST_WAIT_S, UNREACHABLE_S, Reconnection, explain
from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.wire.console_close import TRANSIENT, ConsoleCloseCode


class Time:
    now_s = 0.0

    def reconnection(self) -> Reconnection:
        return Reconnection(lambda: self.now_s, lambda: 0.5)


def test_a_lost_connection_is_tried_later_and_later_for_90_seconds() -> None:
    time = Time()
    reconnection = time.reconnection()
    waits = []
    while (wait_s := reconnection.wait_s(LOST)) is not None:
        waits.append(wait_s)
        time.now_s += wait_s
    assert waits[:6] == [0.5, 1, 2, 4, 8, LONGEST_WAIT_S]
    assert time.now_s >= UNREACHABLE_S


def test_what_was_reached_again_has_its_time_again() -> None:
    time = Time()
    reconnection = time.reconnection()
    for _ in range(3):
        assert reconnection.wait_s(LOST) is not None
        time.now_s += UNREACHABLE_S - 1
        reconnection.connected()
    reconnection.used()
    assert reconnection.wait_s(LOST) == 0.5


@pytest.mark.parametrize("refusal", BrowserRefusal)
def test_it_connects_again_exactly_when_the_page_does(refusal: BrowserRefusal) -> None:
    wait_s = Time().reconnection().wait_s(ConnectionEnd(refusal.close_code, refusal.title))
    assert (wait_s is not None) == refusal.is_transient


def test_a_machine_that_does_not_run_is_waited_for_until_the_session_ends() -> None:
    time = Time()
    reconnection = time.reconnection()
    for _ in range(100):
        time.now_s += 10
        assert reconnection.wait_s(ConnectionEnd(ConsoleCloseCode.MACHINE_STOPPED)) is not None
    assert reconnection.wait_s(ConnectionEnd(ConsoleCloseCode.NOT_BACK)) is None


def test_close_codes_have_the_names_of_the_refusals() -> None:
    refusals = {refusal.name: refusal.close_code for refusal in BrowserRefusal}
    own = {code.name: int(code) for code in ConsoleCloseCode if code >= 4000}
    assert own.items() <= refusals.items()
    assert {code.name for code in TRANSIENT if code >= 4000} == {
        refusal.name for refusal in BrowserRefusal if refusal.is_transient
    }


def test_an_end_is_explained_in_one_sentence_and_a_hint() -> None:
    idle = BrowserRefusal.SESSION_IDLE
    message, hint = explain("web", ConnectionEnd(idle.close_code, idle.title))
    assert message == "console of web has ended: this console was closed because it was not used"
    assert "consoleproxy.session.timeout" in hint
    message, hint = explain("web", LOST)
    assert message == "console of web has ended: the console proxy cannot be reached"
    assert "network" in hint
    assert "4499" in explain("web", ConnectionEnd(4499))[0]
