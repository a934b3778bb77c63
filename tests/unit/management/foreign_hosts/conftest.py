# SPDX-License-Identifier: Apache-2.0
"""Registered hosts of SmallCloud, each with a protocol peer."""

from __future__ import annotations

from typing import Any

import pytest

from foreign_host_peers import PASSWORD, USERNAME, XapiPeer
from small_cloud import SmallCloud
from small_cloud.foreign_hosts import FINGERPRINT


@pytest.fixture
def xapi(cloud: SmallCloud) -> XapiPeer:
    peer = XapiPeer()
    cloud.host_peers["xen-1"] = peer
    return peer


@pytest.fixture
def definition() -> dict[str, Any]:
    """The parameters of addHost for the peer."""
    return {
        "hypervisor": "XenServer",
        "url": "https://xen-1",
        "username": USERNAME,
        "password": PASSWORD,
        "fingerprint": FINGERPRINT,
    }
