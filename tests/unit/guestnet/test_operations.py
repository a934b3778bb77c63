# SPDX-License-Identifier: Apache-2.0
"""Which bridges are served when some cannot be. dnsmasq and the metadata server are fakes here."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from systemvm.guestnet import operations
from systemvm.guestnet.operations import ServiceOperations
from systemvm.host.bridges import HostNetwork
from systemvm.host.guest_services import GuestBridge, GuestSubnet, encode
from systemvm.host.layout import Layout
from systemvm.service.unix_calls import RefusedError

#: What nft was given.
loaded: list[str] = []


class FakeProcess:
    """It has the names of the bridges that are served."""

    running: set[str]

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def serve(self, *_: Any) -> None:
        self._directory.mkdir(exist_ok=True)
        self.running.add(self._directory.name)

    def stop(self) -> None:
        self.running.discard(self._directory.name)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, HostNetwork]:
    monkeypatch.setattr(FakeProcess, "running", set(), raising=False)
    monkeypatch.setattr(operations, "Dnsmasq", FakeProcess)
    monkeypatch.setattr(operations, "MetadataProcess", FakeProcess)
    monkeypatch.setattr(operations, "load_rules", loaded.append)
    loaded.clear()
    known = {
        name: HostNetwork.of(name, ["guest"], f"10.{number}.0.1/24")
        for name, number in (("br1", 13), ("br2", 14), ("br3", 15))
    }
    monkeypatch.setattr(ServiceOperations, "_guest_networks", lambda _: known)
    return known


def serve(layout: Layout, *bridges: tuple[str, int]) -> dict[str, Any]:
    """Serve bridges by their names, each with one subnet; return what failed."""
    wanted = [
        GuestBridge(name, (GuestSubnet(IPv4Network(f"10.{number}.0.0/24"), IPv4Address(0), "zone1.test"),))
        for name, number in bridges
    ]
    content = os.memfd_create("request")
    try:
        os.write(content, encode(wanted))
        os.lseek(content, 0, os.SEEK_SET)
        answer, _ = ServiceOperations(layout)({"do": "serve"}, [content])
        failed: dict[str, Any] = answer["failed"]
        return failed
    finally:
        os.close(content)


def test_a_bridge_that_cannot_be_served_does_not_keep_others_from_it(
    tmp_path: Path, known: dict[str, HostNetwork]
) -> None:
    layout = Layout(tmp_path)
    layout.guest_services.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    failed = serve(layout, ("../../outside", 13), ("unknown", 13), ("br1", 20), ("br2", 14))
    assert [*failed] == ["../../outside", "unknown", "br1"]
    assert "carries no guest traffic" in failed["unknown"]["why"]
    assert failed["br1"]["why"] == "this host has no address in its network"
    assert FakeProcess.running == {"br2"}
    assert '"br2" ip saddr 10.14.0.0/24' in loaded[-1]
    assert "br1" not in loaded[-1]
    assert [path.name for path in layout.guest_services.iterdir()] == ["br2"]


def test_a_bridge_that_cannot_be_served_any_more_is_not(
    tmp_path: Path, known: dict[str, HostNetwork]
) -> None:
    layout = Layout(tmp_path)
    layout.guest_services.mkdir(parents=True)
    assert serve(layout, ("br1", 13), ("br2", 14), ("br3", 15)) == {}
    del known["br1"]
    assert [*serve(layout, ("br1", 13), ("br2", 20))] == ["br1", "br2"]
    assert FakeProcess.running == set()
    # the data of machines stays for the time when they are served again
    assert {path.name for path in layout.guest_services.iterdir()} == {"br1", "br2"}


def test_a_kernel_that_cannot_redirect_is_reported_and_the_rest_is_served(
    tmp_path: Path, known: dict[str, HostNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(script: str) -> None:
        raise RefusedError("cannot set the firewall: no NAT", "boot another kernel")

    monkeypatch.setattr(operations, "load_rules", refuse)
    layout = Layout(tmp_path)
    layout.guest_services.mkdir(parents=True)
    failed = serve(layout, ("br1", 13))
    assert failed["br1"]["why"] == "169.254.169.254 is not answered: cannot set the firewall: no NAT"
    assert FakeProcess.running == {"br1"}
