# SPDX-License-Identifier: Apache-2.0
"""The network helper's users, requests and privileges."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.network_lab import Host, host, links_of, sh
from systemvm.host.layout import DAEMON_USER, NETWORK_USER, QEMU_USER
from systemvm.service.unix_calls import RefusedError, call

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

__all__ = ["host"]  # the fixture


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "remove-tap", "name": "v0"},
        {"do": "remove-tap", "name": "cloud0"},
        {"do": "remove-tap", "name": "lo"},
        {"do": "make-tap", "name": "eth0", "bridge": "cloud0", "isolated": True},
        {"do": "make-tap", "name": "t0000000001-0\n", "bridge": "cloud0", "isolated": True},
        {"do": "make-tap", "name": "../../t0000001-0", "bridge": "cloud0", "isolated": True},
        {"do": "make-tap", "bridge": "cloud0", "isolated": True},
        {"do": "admit-consoles", "addresses": ["10.11.0.9 } ; flush ruleset ; add element x y { 1"]},
        {"do": "admit-consoles", "addresses": ["fe80::1%x; flush ruleset"]},
        {"do": "ensure", "vnc_ports": [22, 6100], "control_port": 8250, "consoles": []},
        {"do": "ensure", "vnc_ports": ["5900 accept", 6100], "control_port": 8250, "consoles": []},
        {"do": "ensure", "vnc_ports": [5900, 6100], "control_port": 22, "consoles": []},
        {"do": "bind-guests"},
        {"do": "run", "argv": ["id"]},
        {},
    ],
)
def test_an_invalid_request_is_refused_and_changes_nothing(host: Host, request_: dict[str, object]) -> None:
    before = links_of(host).keys(), sh("ip", "netns", "exec", host.name, "nft", "list", "ruleset")
    assert host.send_request(**request_).startswith("RefusedError")
    assert (links_of(host).keys(), sh("ip", "netns", "exec", host.name, "nft", "list", "ruleset")) == before


@pytest.mark.parametrize("user", ["daemon", NETWORK_USER, QEMU_USER])
def test_only_the_daemons_user_can_connect(host: Host, user: str) -> None:
    assert host.send_request(user, do="state").startswith("PermissionError")


def test_root_is_not_the_daemon(host: Host) -> None:
    """The socket's mode does not exclude root; the caller's uid, which the kernel reports, does."""
    with pytest.raises(RefusedError, match="the only one it serves"):
        call(host.layout.network_socket, {"do": "state"})
    assert "'ports'" in host.send_request(do="state")


def test_the_daemons_user_can_change_nothing_itself(host: Host) -> None:
    done = host.run_as(
        DAEMON_USER,
        "import subprocess; print(subprocess.run(['ip', 'link', 'del', 'cloud0'], stderr=subprocess.STDOUT))",
    )
    assert "Operation not permitted" in done.stdout
    assert "cloud0" in links_of(host)


def test_the_helper_has_one_capability_and_no_way_to_another(host: Host) -> None:
    found = {}
    for number in sh("ip", "netns", "pids", host.name).split():
        command = Path(f"/proc/{number}/cmdline").read_text()
        if "systemvm.nethelper" in command:
            found = dict(
                line.split(":\t", 1) for line in Path(f"/proc/{number}/status").read_text().splitlines()
            )
    net_admin = f"{1 << 12:016x}"
    assert [found[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")] == [net_admin] * 4
    assert found["NoNewPrivs"] == "1"
    assert "0" not in found["Uid"].split()
