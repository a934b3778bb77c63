# SPDX-License-Identifier: Apache-2.0
"""Fixture: a template that waits for its download."""

from __future__ import annotations

import pytest

from small_cloud import SmallCloud
from systemvm.management.state.templates import StoreRef
from template_downloads import WAITING


@pytest.fixture
def ref(cloud: SmallCloud) -> StoreRef:
    return cloud.add_template(state=WAITING)[1]
