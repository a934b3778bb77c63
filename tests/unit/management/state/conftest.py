# SPDX-License-Identifier: Apache-2.0
"""Fixture: a database in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from prepared_database import open_migrated
from systemvm.management.state import accounts, zones
from systemvm.management.state.database import Database
from systemvm.management.state.status import AccountType


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A migrated database with the system account and one zone."""
    opened = open_migrated(tmp_path / "systemvm.sqlite")

    def fill(connection: sa.Connection) -> None:
        domain = accounts.create_domain(connection, "ROOT", "/")
        system = accounts.create_account(connection, "system", AccountType.ADMIN, domain.id)
        accounts.create_user(connection, "system", system, None)
        zones.put_zone(connection, "zone1", arch="amd64", dns=["203.0.113.10"])

    opened.run_now(fill)
    yield opened
    opened.close()
