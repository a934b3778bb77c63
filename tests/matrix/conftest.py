# SPDX-License-Identifier: Apache-2.0
"""Skips matrix tests without built images or the permission to make namespaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from image.built_image import IMAGES

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    present = all((IMAGES / f"{role}.manifest.json").exists() for role in ("ssvm", "cpvm"))
    for item in items:
        if HERE not in item.path.parents:
            continue
        if item.get_closest_marker("image") and not present:
            item.add_marker(pytest.mark.skip(reason="needs built images: `make images`"))
        if item.get_closest_marker("netns") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
