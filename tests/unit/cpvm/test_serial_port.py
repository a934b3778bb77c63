# SPDX-License-Identifier: Apache-2.0
"""A serial port that consoles share: scroll-back, slow consoles, who answers, what policies let pass."""

from __future__ import annotations

import json
import random
from typing import Any, cast

import pytest

from systemvm.cpvm.serial_output import KEPT_BYTES, SerialOutput, without_overlap
from systemvm.cpvm.serial_port import SerialPort
from systemvm.cpvm.serial_relay import KEY_BYTES, SerialRelay
from systemvm.web.tls_transport import TlsTransport
from systemvm.wire.console import ConsolePolicy


class Stream:
    """A port whose machine writes `incoming`, and accepts `room` bytes."""

    reading_needs_write = False

    def __init__(self) -> None:
        self.incoming: list[bytes] = []
        self.written = b""
        self.room = 1 << 20
        self.is_closed = False

    def fileno(self) -> int:
        return 7

    def read_into(self, buffer: memoryview) -> int:
        if not self.incoming:
            raise BlockingIOError
        data = self.incoming.pop(0)
        buffer[: len(data)] = data
        return len(data)

    def has_pending(self) -> bool:
        return False

    def write(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        count = min(self.room, len(data))
        self.room -= count
        self.written += data[:count]
        return count

    def close(self) -> None:
        self.is_closed = True


class Reactor:
    def addReader(self, reader: Any) -> None: ...
    def removeReader(self, reader: Any) -> None: ...
    def addWriter(self, writer: Any) -> None: ...
    def removeWriter(self, writer: Any) -> None: ...


class Browser:
    """A browser that reads, unless it is blocked."""

    def __init__(self) -> None:
        self.is_blocked = False
        self.is_paused = False
        self.text: list[dict[str, Any]] = []
        self.data = b""

    def send(self, frame: bytes) -> bool:
        length, at = frame[1], 2
        if length == 126:
            length, at = int.from_bytes(frame[2:4], "big"), 4
        payload = frame[at : at + length]
        if frame[0] & 0x0F == 1:
            self.text.append(json.loads(payload))
        else:
            self.data += payload
        return True

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False


class Lab:
    def __init__(self, history: bytes = b"") -> None:
        self.stream = Stream()
        self.closed: list[SerialPort] = []
        self.port = SerialPort(Reactor(), cast(Any, self.stream), history, self.closed.append)
        self.port.start()

    def join(self, policy: ConsolePolicy | None = None) -> tuple[Browser, SerialRelay, list[str]]:
        browser, ends = Browser(), list[str]()
        relay = SerialRelay(
            self.port, cast(TlsTransport, browser), policy or ConsolePolicy(), lambda: ends.append("closed")
        )
        relay.start()
        return browser, relay, ends

    def machine_writes(self, data: bytes) -> None:
        self.stream.incoming.append(data)
        self.port.doRead()


def test_history_and_output_meet_without_gap_or_repetition() -> None:
    history = b"kernel\r\nlogin: "
    assert without_overlap(history, b"login: root") == b"root"
    assert without_overlap(history, b"root") == b"root"
    assert without_overlap(b"", b"x") == b"x"
    long = random.Random(1).randbytes(2000)
    assert without_overlap(long[:1500], long[700:2000]) == long[1500:2000]
    assert without_overlap(history, history) == b""


def test_what_is_kept_is_bounded() -> None:
    output = SerialOutput(100)
    for _ in range(50):
        output.append(b"0123456789")
    assert (output.start, output.end) == (400, 500)
    assert output.read(0, 7) == (400, b"0123456")
    assert output.read(497, 100) == (0, b"789")
    assert output.read(500, 100) == (0, b"")


def test_every_console_sees_history_and_output() -> None:
    lab = Lab(b"before ")
    first, _, _ = lab.join()
    lab.machine_writes(b"one ")
    second, _, _ = lab.join()
    lab.machine_writes(b"two")
    assert first.data == second.data == b"before one two"
    assert [message["scrollback"] for message in (first.text[0], second.text[0])] == [7, 11]


def test_a_slow_console_misses_output_and_delays_nobody() -> None:
    lab = Lab()
    slow, relay, _ = lab.join()
    fast, _, _ = lab.join()
    slow.is_blocked = True
    total = 0
    while total <= 2 * KEPT_BYTES:
        lab.machine_writes(b"x" * 10_000)
        total += 10_000
    assert len(fast.data) == total
    assert slow.data == b""
    slow.is_blocked = False
    relay.browser_drained()
    assert f"{total - KEPT_BYTES} bytes were skipped".encode() in slow.data
    assert slow.data.endswith(b"x" * KEPT_BYTES)
    assert relay.sent_bytes == KEPT_BYTES


def test_one_terminal_answers_a_programs_queries() -> None:
    lab = Lab()
    watcher, _, _ = lab.join(ConsolePolicy(view_only=True))
    first, relay, _ = lab.join()
    second, _, _ = lab.join()
    assert [browser.text[0]["answers"] for browser in (watcher, first, second)] == [False, True, False]
    relay.close()
    assert second.text[-1] == {"notice": "answers"}
    assert len(watcher.text) == 1


@pytest.mark.parametrize(
    ("policy", "passes"),
    [
        (ConsolePolicy(), b"l" + b"p" * 100),
        (ConsolePolicy(view_only=True), b""),
        (ConsolePolicy(clipboard_to_guest=False), b"l"),
        (ConsolePolicy(clipboard_from_guest=False), b"l" + b"p" * 100),
    ],
)
def test_the_policy_decides_what_is_typed(policy: ConsolePolicy, passes: bytes) -> None:
    lab = Lab()
    _, relay, _ = lab.join(policy)
    relay.write(b"l")
    assert KEY_BYTES < 100
    relay.write(b"p" * 100)
    assert lab.stream.written == passes


def test_who_types_waits_while_the_machine_accepts_nothing() -> None:
    lab = Lab()
    browser, relay, _ = lab.join()
    lab.stream.room = 3
    relay.write(b"abcdef")
    assert browser.is_paused
    lab.stream.room = 100
    lab.port.doWrite()
    assert not browser.is_paused
    assert lab.stream.written == b"abcdef"


def test_a_pasted_text_is_sent_in_records_of_one_byte_and_leaves_others_their_turn() -> None:
    """QEMU leaves what its UART has no room for in the record, until another record comes."""
    lab = Lab()
    sizes: list[int] = []
    accept = lab.stream.write

    def write(data: bytes) -> int:
        sizes.append(len(data))
        return accept(data)

    lab.stream.write = write  # type: ignore[method-assign]
    browser, relay, _ = lab.join()
    relay.write(b"p" * 2000)
    assert (len(sizes), browser.is_paused) == (512, True)
    while browser.is_paused:
        lab.port.doWrite()
    assert (set(sizes), lab.stream.written) == ({1}, b"p" * 2000)


def test_the_last_console_closes_the_port_and_the_machine_all_consoles() -> None:
    lab = Lab()
    _, first, _ = lab.join()
    _, second, ends = lab.join()
    first.close()
    assert lab.port.is_open
    second.close()
    assert (lab.stream.is_closed, lab.closed, ends) == (True, [lab.port], [])
    other = Lab()
    _, _, first_ends = other.join()
    _, late, second_ends = other.join()
    other.machine_writes(b"")
    assert (first_ends, second_ends, other.closed) == (["closed"], ["closed"], [other.port])
    late.write(b"x")
    _, _, too_late = other.join()
    assert too_late == ["closed"], "a console of a closed port is told at once"
