# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a machine with a VNC server, and a second CPVM."""

from __future__ import annotations

import pytest

from console_tokens import add_vm
from small_cloud import SmallCloud
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceType
from systemvm.wire.role import Role


@pytest.fixture
def vm(cloud: SmallCloud) -> Instance:
    return add_vm(cloud, "one", 5901)


@pytest.fixture
def other_proxy(cloud: SmallCloud) -> Instance:
    proxy = cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    cloud.agents.connect(proxy.instance_name, Role.CPVM)
    return proxy
