# SPDX-License-Identifier: Apache-2.0
"""SSH for operators: authorized key, listen address and host key."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from systemvm.guest import network, ssh
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.paths import GuestPaths

NICS = {"eth0ip": "169.254.3.4", "eth0mask": "255.255.0.0"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ operator@host"


def argument(text: str) -> dict[str, str]:
    return {"authorized_key": base64.b64encode(text.encode()).decode()}


def test_only_the_key_of_the_boot_arguments_is_authorized(tmp_path: Path) -> None:
    paths = GuestPaths(tmp_path)
    ssh.install(argument(KEY + "\n"), network.make_plan(NICS), paths)
    assert paths.authorized_keys.read_text() == KEY + "\n"
    assert stat.S_IMODE(paths.authorized_keys.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.authorized_keys.parent.stat().st_mode) == 0o700
    ssh.install({}, network.make_plan(NICS), paths)
    assert paths.authorized_keys.read_text() == ""


def test_missing_padding_is_accepted() -> None:
    value = argument(KEY)["authorized_key"].rstrip("=")
    assert ssh.authorized_keys({"authorized_key": value}) == KEY + "\n"


@pytest.mark.parametrize(
    "text", ["", "root:x", f"{KEY}\n{KEY}", 'command="sh" ' + KEY, "ssh-ed25519", "ssh-ed25519 é"]
)
def test_anything_but_one_key_is_refused(text: str) -> None:
    arguments = argument(text) if text else {"authorized_key": "%"}
    with pytest.raises(BootError, match="authorized_key="):
        ssh.authorized_keys(arguments)


def test_sshd_listens_only_on_the_control_address() -> None:
    assert ssh.listen_conf(network.make_plan(NICS)) == "ListenAddress 169.254.3.4:3922\n"
    six = {"eth0ip6": "fd00::4", "eth0ip6prelen": "64"}
    assert ssh.listen_conf(network.make_plan(six)) == "ListenAddress [fd00::4]:3922\n"


def test_sshd_listens_on_management_without_a_control_address() -> None:
    nics = {"eth0ip": "0.0.0.0", "eth0mask": "0.0.0.0", "eth1ip": "10.11.0.9", "eth1mask": "255.255.255.0"}
    assert ssh.listen_conf(network.make_plan(nics)) == "ListenAddress 10.11.0.9:3922\n"
    with pytest.raises(BootError, match="neither eth0 nor the management NIC"):
        ssh.listen_conf(network.make_plan({"eth0ip": "0.0.0.0"}))


def test_a_host_key_is_generated_once(tmp_path: Path) -> None:
    paths = GuestPaths(tmp_path)
    commands: list[list[str]] = []

    def run(command: list[str]) -> None:
        commands.append(command)
        paths.ssh_host_key.write_text("private")
        paths.ssh_host_key.with_name(paths.ssh_host_key.name + ".pub").write_text("public")

    ssh.ensure_host_key(paths, "s-1-VM", run)
    ssh.ensure_host_key(paths, "s-1-VM", run)
    assert commands == [
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root@s-1-VM", "-f", str(paths.ssh_host_key)]
    ]


def test_an_incomplete_host_key_is_replaced(tmp_path: Path) -> None:
    paths = GuestPaths(tmp_path)
    paths.ssh_host_key.parent.mkdir(parents=True)
    paths.ssh_host_key.write_text("")
    commands: list[list[str]] = []
    ssh.ensure_host_key(paths, "s-1-VM", commands.append)
    assert len(commands) == 1
    assert not paths.ssh_host_key.exists()
