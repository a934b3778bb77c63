# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the unpacked images, and the two system VMs of the shared cloud over ssh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from image.built_image import IMAGES, BuiltImage

if TYPE_CHECKING:
    from testinfra.host import Host

    from booted_cloud import BootedCloud

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    present = all((IMAGES / f"{role}.manifest.json").exists() for role in ("ssvm", "cpvm"))
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("image") and not present:
            item.add_marker(pytest.mark.skip(reason="needs built images: `make images`"))


@pytest.fixture(scope="session", params=["ssvm", "cpvm"])
def image(request: pytest.FixtureRequest) -> BuiltImage:
    """Each built image, with its root file system unpacked from the qcow2."""
    return BuiltImage.open(request.param)


@pytest.fixture(scope="session")
def ssvm_ssh(cloud: BootedCloud) -> Host:
    """The booted SSVM, over the operator's ssh."""
    from image.operator_host import operator_host

    return operator_host(cloud, "secondarystoragevm")


@pytest.fixture(scope="session")
def cpvm_ssh(cloud: BootedCloud) -> Host:
    """The booted CPVM, over the operator's ssh."""
    from image.operator_host import operator_host

    return operator_host(cloud, "consoleproxy")
