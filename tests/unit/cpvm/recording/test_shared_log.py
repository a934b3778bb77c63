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


def test_an_entry_that_could_press_the_log_is_not_written_without_a_look_at_the_reader(
    ends: tuple[SharedLog, SharedLog],
) -> None:
    agent, _ = ends
    assert agent.append(EntryKind.SERVER, 1, 0, b"x")
    assert agent.append_if_free(EntryKind.SERVER, 1, 0, bytes(100))
    assert not agent.append_if_free(EntryKind.SERVER, 1, 0, bytes(200)) and agent.waiting_bytes == 160
    assert agent.append(EntryKind.SERVER, 1, 0, bytes(200)) and agent.is_pressed


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
        written, read = list[bytes](), list[bytes]()
        for number, (size, is_read) in enumerate(steps):
            content = bytes((number,)) * size
            entry = EntryKind.SERVER, number, number, content
            if agent.append_if_free(*entry) or agent.append(*entry):
                written.append(content)
            if is_read:
                read += [entry.content for entry in recorder.take(recorder.end)]
        read += [entry.content for entry in recorder.take(recorder.end)]
        assert read == written
