# SPDX-License-Identifier: Apache-2.0
"""A small cloud for each test, from a database that is filled once; a conftest that imports both has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from small_cloud import SmallCloud, fill, make


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def cloud(tmp_path: Path, pristine: Path) -> Iterator[SmallCloud]:
    made = make(tmp_path, pristine)
    yield made
    made.jobs.stop()
    made.database.close()
