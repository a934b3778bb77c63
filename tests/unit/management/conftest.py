# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a zone as in the lab, and a small cloud of one zone."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_cloud.fixtures import cloud, pristine
from systemvm.host.config_file import load
from systemvm.host.zone import ZoneConfig

__all__ = ["cloud", "pristine", "zone", "zone_text"]

ZONE = """
name: zone1
domain: example.test
dns: [203.0.113.10]
networks:
  control:
    {bridge: cloud0, cidr: 169.254.0.0/16, host_address: 169.254.0.1,
     pool: {first: 169.254.0.2, last: 169.254.3.254}}
  management:
    {bridge: cloudbr1, cidr: 10.11.0.0/24, host_address: 10.11.0.1,
     pool: {first: 10.11.0.100, last: 10.11.0.199}}
  public:
    {bridge: cloudbr0, cidr: 203.0.113.0/24, host_address: 203.0.113.1,
     pool: {first: 203.0.113.100, last: 203.0.113.199}}
  storage:
    {bridge: cloudbr2, cidr: 10.12.0.0/24, host_address: 10.12.0.1,
     pool: {first: 10.12.0.100, last: 10.12.0.199}}
  guest: {bridge: cloudbr3, cidr: 10.13.0.0/24, host_address: 10.13.0.1}
image_stores:
  - {name: secondary, url: "nfs://10.12.0.2/export/secondary", host_path: export}
console: {origin: "https://127.0.0.1:8443"}
"""


@pytest.fixture
def zone_text() -> str:
    return ZONE


@pytest.fixture
def zone(tmp_path: Path) -> ZoneConfig:
    path = tmp_path / "zone1.yaml"
    path.write_text(ZONE)
    return load(path, ZoneConfig)
