# SPDX-License-Identifier: Apache-2.0
"""One S3 server for each test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from s3.swift import Swift, SwiftBuilder


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    with SwiftBuilder(tmp_path_factory.mktemp("swift")) as running:
        yield running
