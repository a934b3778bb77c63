# SPDX-License-Identifier: Apache-2.0
"""The topics that statements change."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from systemvm.management.state import events
from systemvm.management.state.database import Database
from systemvm.management.state.topics import EVERYTHING, topics_of


@pytest.mark.parametrize(
    ("statement", "topics"),
    [
        ("SELECT 1", set()),
        ("BEGIN IMMEDIATE", set()),
        ("INSERT INTO events (uuid) VALUES (?)", {"events", "events:inserted"}),
        ("DELETE FROM events WHERE events.id = ?", {"events", "events:deleted"}),
        ("UPDATE nics SET removed=? WHERE nics.id = ?", {"nics", "nics.removed"}),
        ("UPDATE nics SET mac=?, address=? WHERE id = 1", {"nics", "nics.mac", "nics.address"}),
        ("UPDATE nics SET device=(nics.device + ?), mac=?", {"nics", "nics.device", "nics.mac"}),
        ("DROP TABLE nics", {EVERYTHING}),
        ("REPLACE INTO nics VALUES (1)", {EVERYTHING}),
    ],
)
def test_topics_of_statements(statement: str, topics: set[str]) -> None:
    assert set(topics_of(statement)) == topics


def test_what_sqlalchemy_writes_is_recognized(database: Database) -> None:
    """A statement of unknown form would only cost speed; one with too few topics would show old rows."""
    written: list[str] = []

    def executed(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        written.append(statement)

    sa.event.listen(database.engine, "after_cursor_execute", executed)
    database.run_now(events.record, "A", "b")
    event = database.run_now(events.newest, 1)[0]
    database.run_now(events.rows.update, event.id, level="WARN", state="Started")
    found = {topic for statement in written for topic in topics_of(statement)}
    assert found == {"events", "events:inserted", "events.level", "events.state"}
