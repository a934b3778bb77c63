# SPDX-License-Identifier: Apache-2.0
"""The log that agent and recorder share: order, room, and its lap."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemvm.cpvm.recording.shared_log import EntryKind, SharedLog

CAPACITY = 512


class Screen:
    """A screen that is recorded, and what its copies have left to a look at the reader."""

    def __init__(self, log: SharedLog) -> None:
        self.left: list[bytes] = []
        self.now_s = 0.0
        self._shown = b""
        self._read_into = log.copying(
            self._read,
            1,
            lambda: self.now_s,
            lambda: log.is_pressed,
            lambda content: self.left.append(bytes(content)),
        )

    def _read(self, buffer: memoryview) -> int:
        buffer[: len(self._shown)] = self._shown
        return len(self._shown)

    def shows(self, content: bytes) -> int:
        """Return how many bytes its relay has read, and checks that they are its content."""
        self._shown = content
        buffer = memoryview(bytearray(1024))
        count = self._read_into(buffer)
        assert buffer[:count] == content
        return count


@pytest.fixture
def ends() -> Iterator[tuple[SharedLog, SharedLog]]:
    yield from _ends()


def _ends() -> Iterator[tuple[SharedLog, SharedLog]]:
    agent = SharedLog.create(CAPACITY)
    recorder = SharedLog(os.dup(agent.descriptor), CAPACITY)
    yield agent, recorder
    agent.close()
    recorder.close()


def test_entries_are_read_as_they_were_written(ends: tuple[SharedLog, SharedLog]) -> None:
    agent, recorder = ends
    assert agent.append(EntryKind.BEGIN, 1, 5.0, b"order")
    assert agent.append(EntryKind.SERVER, 1, 6.0, memoryview(b"..screen")[2:])
    assert agent.append(EntryKind.END, 1, 7.0, b"")
    found = [
        (entry.kind, entry.number, entry.time_ms, entry.content) for entry in recorder.take(recorder.end)
    ]
    assert found == [
        (EntryKind.BEGIN, 1, 5_000, b"order"),
        (EntryKind.SERVER, 1, 6_000, b"screen"),
        (EntryKind.END, 1, 7_000, b""),
    ]
    assert agent.waiting_bytes == 0


def test_what_finds_no_room_is_not_written(ends: tuple[SharedLog, SharedLog]) -> None:
    agent, recorder = ends
    assert agent.append(EntryKind.SERVER, 1, 0, bytes(200)) and not agent.is_pressed
    assert agent.append(EntryKind.SERVER, 1, 0, bytes(200)) and agent.is_pressed
    assert not agent.append(EntryKind.SERVER, 1, 0, bytes(200))
    assert [len(entry.content) for entry in recorder.take(recorder.end)] == [200, 200]
    assert agent.append(EntryKind.SERVER, 1, 0, bytes(100)) and not agent.is_pressed


def test_a_copy_that_could_press_the_log_is_left_to_a_look_at_the_reader(
    ends: tuple[SharedLog, SharedLog],
) -> None:
    agent, recorder = ends
    screen = Screen(agent)
    assert screen.shows(b"first") and screen.left == [b"first"]
    agent.quiet_until_s = 10.0
    assert agent.append(EntryKind.SERVER, 1, 0, b"x")
    assert screen.shows(bytes(100)) and screen.left == [b"first"]
    assert screen.shows(bytes(200)) and screen.left == [b"first", bytes(200)]
    assert [entry.content for entry in recorder.take(recorder.end)] == [b"x", bytes(100)]
    screen.now_s = 10.0
    assert screen.shows(b"late") and screen.left == [b"first", bytes(200), b"late"]
    assert not screen.shows(b"") and len(screen.left) == 3


def test_nothing_is_read_while_the_log_is_pressed(ends: tuple[SharedLog, SharedLog]) -> None:
    agent, recorder = ends
    screen = Screen(agent)
    agent.append(EntryKind.SERVER, 1, 0, bytes(300))
    with pytest.raises(BlockingIOError):
        screen.shows(b"more")
    list(recorder.take(recorder.end))
    assert not agent.look_at_reader() and screen.shows(b"more")


def test_a_reader_that_stops_between_entries_goes_on_with_the_next(
    ends: tuple[SharedLog, SharedLog],
) -> None:
    agent, recorder = ends
    for number in range(3):
        agent.append(EntryKind.SERVER, number, 0, b"x")
    assert next(recorder.take(recorder.end)).number == 0
    assert [entry.number for entry in recorder.take(recorder.end)] == [1, 2]


def test_what_a_killed_writer_has_left_is_read(ends: tuple[SharedLog, SharedLog]) -> None:
    agent, recorder = ends
    agent.append(EntryKind.SERVER, 1, 0, b"the last picture")
    another = SharedLog(os.dup(recorder.descriptor), CAPACITY)
    assert [entry.content for entry in another.take(another.end)] == [b"the last picture"]
    another.close()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 230), st.booleans()), max_size=40))
def test_nothing_is_lost_or_changed_at_any_lap(steps: list[tuple[int, bool]]) -> None:
    for agent, recorder in _ends():
        screen = Screen(agent)
        agent.quiet_until_s = 1.0
        written, read = list[bytes](), list[bytes]()
        for number, (size, is_read) in enumerate(steps):
            content = bytes((number,)) * size
            if number % 2 and not agent.look_at_reader():
                screen.shows(content)
                if content and not screen.left:
                    written.append(content)
            else:
                screen.left.append(content)
            written += [each for each in screen.left if agent.append(EntryKind.SERVER, 1, number, each)]
            screen.left.clear()
            if is_read:
                read += [entry.content for entry in recorder.take(recorder.end)]
        read += [entry.content for entry in recorder.take(recorder.end)]
        assert read == written
