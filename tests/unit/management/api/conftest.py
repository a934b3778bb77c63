# SPDX-License-Identifier: Apache-2.0
"""Fixture: a browser of the API."""

from __future__ import annotations

import pytest

from api_client import Browser
from small_cloud import SmallCloud


@pytest.fixture
def browser(cloud: SmallCloud) -> Browser:
    return Browser(cloud)
