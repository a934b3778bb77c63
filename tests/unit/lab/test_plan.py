# SPDX-License-Identifier: Apache-2.0
"""Names and addresses of a lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.host.layout import Layout
from systemvm.lab import configuration
from systemvm.lab.plan import EXTERNAL_SERVERS, NETWORKS, SOURCE_NAME, LabPlan
from systemvm.lab.source_ca import SourceCertificates
from systemvm.management import config


def test_two_roots_never_share_a_name(tmp_path: Path) -> None:
    one, two = (LabPlan(tmp_path / name, tmp_path) for name in ("one", "two"))
    assert not set(one.namespaces) & set(two.namespaces)
    assert LabPlan(tmp_path / "x/../one", tmp_path).namespaces == one.namespaces


def test_names_of_interfaces_fit_the_kernel() -> None:
    assert all(len(network.bridge) <= 15 for network in NETWORKS)
    assert all(len(f"{server.name}0") <= 15 for server in EXTERNAL_SERVERS)


def test_external_servers_are_on_their_bridges_and_outside_of_the_pools() -> None:
    networks = {network.bridge: network for network in NETWORKS}
    for server in EXTERNAL_SERVERS:
        network = networks[server.bridge]
        assert server.address.network == network.host.network
        assert network.pool and not network.pool[0] <= server.address.ip <= network.pool[1]


def test_the_daemon_reads_what_the_lab_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "prepare", Layout.make)  # owners need root and the daemon's user
    plan = LabPlan(tmp_path / "root", tmp_path / "build", 18080, 18443, 18444)
    certificates = SourceCertificates.make(plan.lab / "source-tls", SOURCE_NAME)
    configuration.write(plan, certificates, accelerator="tcg")
    read = config.read(Layout(plan.root))
    assert read.management.page.origin == "http://127.0.0.1:18080"
    [zone] = read.zones
    assert zone == configuration.zone(plan, certificates)
    assert zone.console.origin == "https://127.0.0.1:18443"
    assert zone.secondary_storage.origin == "https://127.0.0.1:18444"
    assert zone.source_ca_pem and "BEGIN CERTIFICATE" in zone.source_ca_pem
    assert zone.image_stores[0].host_path == plan.secondary


def test_the_download_source_keeps_its_certificates(tmp_path: Path) -> None:
    first = SourceCertificates.make(tmp_path, SOURCE_NAME).ca.read_bytes()
    again = SourceCertificates.make(tmp_path, SOURCE_NAME)
    assert again.ca.read_bytes() == first
    assert again.key.stat().st_mode & 0o777 == 0o600
