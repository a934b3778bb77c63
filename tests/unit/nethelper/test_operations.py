# SPDX-License-Identifier: Apache-2.0
"""Bridges that cannot be made; integration tests make real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from systemvm.host.bridges import HostNetwork
from systemvm.host.layout import Layout
from systemvm.nethelper import guest_links, links, operations
from systemvm.nethelper.openvswitch import OpenVSwitch
from systemvm.nethelper.operations import Operations
from systemvm.nethelper.ovsdb import NoOpenVSwitchError
from systemvm.service.unix_calls import RefusedError

ENSURE = {"do": "ensure", "vnc_ports": [5900, 6100], "control_port": 8250, "consoles": []}
HOST = """
labels:
  cloud0: {traffic_types: [control], addresses: [169.254.0.1/16]}
  br-one: {traffic_types: [public], uplink: eth9}
  br-two: {traffic_types: [storage]}
  ovs1: {traffic_types: [guest], kind: openvswitch}
  ovs2: {traffic_types: [management], kind: openvswitch}
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the bridges that were tried; without Open vSwitch, and any with an uplink fails."""
    names: list[str] = []

    def ensure_bridge(network: HostNetwork) -> None:
        if network.uplink is not None:
            raise RefusedError(f"uplink {network.uplink} does not exist", "correct it")
        names.append(network.bridge)

    monkeypatch.setattr(links, "ensure_bridge", ensure_bridge)
    monkeypatch.setattr(guest_links, "present", lambda *_: {})
    monkeypatch.setattr(operations, "load_rules", lambda rules: None)

    def is_absent(self: OpenVSwitch, network: HostNetwork) -> None:
        names.append(network.bridge)
        raise NoOpenVSwitchError("Open vSwitch does not run on this host", "start it")

    monkeypatch.setattr(OpenVSwitch, "ensure_bridge", is_absent)
    return names


def ensure(root: Path, text: str) -> dict[str, Any]:
    layout = Layout(root)
    layout.make()
    (layout.etc / "host.yaml").write_text(text)
    answer, _ = Operations(layout)(ENSURE, [])
    unusable: dict[str, Any] = answer["unusable"]
    return unusable


def test_a_bridge_that_cannot_be_made_costs_no_other(tmp_path: Path, made: list[str]) -> None:
    unusable = ensure(tmp_path, HOST)
    assert made == ["cloud0", "br-two", "ovs1"], "a second bridge of Open vSwitch was tried"
    assert unusable["br-one"] == ["uplink eth9 does not exist", "correct it"]
    assert unusable["ovs1"] == unusable["ovs2"] == ["Open vSwitch does not run on this host", "start it"]
    assert unusable.keys() == {"br-one", "ovs1", "ovs2"}


def test_without_the_control_network_nothing_is_answered(tmp_path: Path, made: list[str]) -> None:
    with pytest.raises(RefusedError, match="uplink eth8 does not exist"):
        ensure(tmp_path, HOST.replace("[control]", "[control], uplink: eth8"))
