# SPDX-License-Identifier: Apache-2.0
"""A fixture for tests that run in each browser that users of Debian have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.cpvm_lab.chromium import Chromium
from integration.cpvm_lab.firefox import Firefox


@pytest.fixture(scope="module", params=[Chromium, Firefox], ids=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Iterator[Chromium]:
    browser = request.param()
    yield browser
    browser.close()
