# SPDX-License-Identifier: Apache-2.0
"""What is read of Open vSwitch's database, and the names of a tap's links."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from systemvm.host.bridges import Datapath
from systemvm.nethelper import ovsdb
from systemvm.nethelper.hybrid_plug import HybridPlug
from systemvm.nethelper.ovsdb import NoOpenVSwitchError, Ovsdb, TapPort
from systemvm.service.unix_calls import RefusedError


class AnsweredOvsdb(Ovsdb):
    """Answers a command by its last two words, and keeps the commands."""

    def __init__(self, **answers: str) -> None:
        super().__init__(Path("/nowhere"))
        self.answers = answers
        self.commands: list[str] = []

    def _run(self, *arguments: str) -> str:
        self.commands.append(" ".join(arguments))
        return next((answer for words, answer in self.answers.items() if words in "_".join(arguments)), "")


def table(*rows: list[object]) -> str:
    return json.dumps({"data": rows})


def test_names_of_links_fit_the_kernel_and_are_the_taps_own() -> None:
    plug = HybridPlug("t0123456789-15")
    assert (plug.bridge, plug.near, plug.far) == ("b0123456789-15", "v0123456789-15", "o0123456789-15")
    assert max(map(len, (plug.bridge, plug.near, plug.far))) <= 15


def test_ports_of_taps_are_read_with_their_bridges() -> None:
    """A set of one is written as its member (RFC 7047)."""
    bridges = table(
        ["one", ["uuid", "1"]], ["two", ["set", [["uuid", "2"], ["uuid", "3"]]]], ["no", ["set", []]]
    )
    none: list[object] = ["map", []]
    tap = "systemvm-tap"
    ports = table(
        [["uuid", "1"], ["map", [[tap, "t1"]]], ["map", [["protected", "true"]]]],
        [["uuid", "2"], ["map", [["other", "x"], [tap, "t2"]]], none],
        [["uuid", "3"], none, none],
    )
    database = AnsweredOvsdb(list_bridge=bridges, list_port=ports)
    assert database.tap_ports() == {"t1": TapPort("one", True), "t2": TapPort("two", False)}


@pytest.mark.parametrize(
    ("text", "datapath"),
    [('""\n', Datapath.SYSTEM), ("system\n", Datapath.SYSTEM), ("netdev\n", Datapath.NETDEV)],
)
def test_a_bridge_without_a_datapath_type_has_the_kernels(text: str, datapath: Datapath) -> None:
    assert (
        AnsweredOvsdb(**{"list-br": "br-ex\nbr-int\n", "datapath_type": text}).datapath_of("br-ex")
        is datapath
    )


def test_a_port_without_a_vlan_is_no_trunk() -> None:
    database = AnsweredOvsdb()
    database.add_access_port("br-ex", "o1", vlan=None, isolated=True, tap="t1")
    assert "vlan_mode=access tag=0 other_config:protected=true" in database.commands[0]


def test_a_port_that_the_switch_cannot_use_is_removed() -> None:
    database = AnsweredOvsdb(ofport="-1\n", o1_error='"no such device"\n')
    with pytest.raises(RefusedError, match="cannot use o1: no such device"):
        database.add_access_port("br-ex", "o1", vlan=7, isolated=False, tap="t1")
    assert database.commands[-1] == "--no-wait --if-exists del-port o1"


def test_a_server_that_does_not_listen_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoOpenVSwitchError, match="does not run on this host") as raised:
        Ovsdb(tmp_path / "db.sock").datapath_of("br-ex")
    assert "install Debian's openvswitch-switch" in raised.value.hint


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -ALRM $$", "ovs-vswitchd has not obeyed within"),
        ("echo why >&2; exit 1", "cannot change Open vSwitch: why"),
    ],
)
def test_failures_of_the_tool_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr(ovsdb.Ovsdb, "_check_server", lambda self: None)
    (tmp_path / "ovs-vswitchd.pid").write_text(str(os.getpid()))
    tool = tmp_path / "ovs-vsctl"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RefusedError, match=message):
        Ovsdb(tmp_path / "db.sock").datapath_of("br-ex")


def test_a_missing_tool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ovsdb.Ovsdb, "_check_server", lambda self: None)
    (tmp_path / "ovs-vswitchd.pid").write_text(str(os.getpid()))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoOpenVSwitchError, match="not installed"):
        Ovsdb(tmp_path / "db.sock").datapath_of("br-ex")


@pytest.mark.parametrize("text", [None, "", "4194305\n"])
def test_a_switch_that_does_not_run_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.setattr(ovsdb.Ovsdb, "_check_server", lambda self: None)
    if text is not None:
        (tmp_path / "ovs-vswitchd.pid").write_text(text)
    with pytest.raises(NoOpenVSwitchError, match="ovs-vswitchd does not run") as raised:
        Ovsdb(tmp_path / "db.sock").datapath_of("br-ex")
    assert "systemctl restart openvswitch-switch" in raised.value.hint
