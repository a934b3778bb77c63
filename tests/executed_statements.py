# SPDX-License-Identifier: Apache-2.0
"""Which statements a database executes: for tests of what something costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa


@contextmanager
def executed_statements(engine: sa.Engine) -> Iterator[list[str]]:
    """Collect the statements that are executed meanwhile, also BEGIN and PRAGMA."""
    found: list[str] = []

    def executed(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    sa.event.listen(engine, "after_cursor_execute", executed)
    try:
        yield found
    finally:
        sa.event.remove(engine, "after_cursor_execute", executed)
