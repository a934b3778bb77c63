# SPDX-License-Identifier: Apache-2.0
"""`systemvm ssh`, `cp`, `logs` and `serial`: the command lines that they run."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from systemvm.cli import daemon_client
from systemvm.cli.__main__ import main
from systemvm.service import slowness
from systemvm.service.slowness import KernelCounters, SlownessMeter

TARGET = {
    "user": "root", "address": "169.254.3.4", "port": 3922, "key_file": "/keys/id",
    "host_keys": ["ssh-ed25519 AAAAkey root@s-1-VM"],
}  # fmt: skip


class Sandbox:
    """The command line with a fake daemon, and without starting any program."""

    def __init__(self, exit_code: int = 0) -> None:
        self.answers: dict[str, Any] = {"system_vm.ssh": TARGET}
        self.exit_code = exit_code
        self.started: list[list[str]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.timeouts_s: list[float] = []

    def answer(self, path: str, method: str, params: dict[str, Any], timeout_s: float = 30) -> Any:
        self.calls.append((method, params))
        self.timeouts_s.append(timeout_s)
        answer = self.answers[method]
        return answer.pop(0) if isinstance(answer, list) else answer

    def start(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        assert not check
        self.started.append(command)
        return subprocess.CompletedProcess(command, self.exit_code)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["--root", "/nowhere", *arguments])


def become_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure ten times the duration of the reference task."""
    meter = SlownessMeter(counters=lambda: KernelCounters(), reference_task=lambda: 0.025)
    monkeypatch.setattr(slowness, "METER", meter)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sandbox:
    sandbox = Sandbox()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(daemon_client, "unix_call", sandbox.answer)
    monkeypatch.setattr(daemon_client.DaemonClient, "namespace_prefix", lambda self: ["nsenter", "--net=/ns"])
    monkeypatch.setattr(subprocess, "run", sandbox.start)
    return sandbox


def stored_host_keys(cache: Path) -> dict[str, str]:
    """Return the stored host keys of the only cloud, by VM."""
    [cloud] = (cache / "systemvm/known_hosts").iterdir()
    return {path.name: path.read_text() for path in cloud.iterdir()}


def test_ssh_trusts_only_the_reported_key(sandbox: Sandbox, tmp_path: Path) -> None:
    result = sandbox.run("ssh", "s-1-VM", "--", "uptime")
    assert result.exit_code == 0, result.output
    line = sandbox.started[0]
    assert line[:2] == ["nsenter", "--net=/ns"]
    assert line[-2:] == ["root@169.254.3.4", "uptime"]
    assert {"StrictHostKeyChecking=yes", "HostKeyAlias=s-1-VM", "BatchMode=yes"} <= set(line)
    assert stored_host_keys(tmp_path) == {"s-1-VM": "s-1-VM ssh-ed25519 AAAAkey\n"}


def test_ssh_waits_for_an_emulated_guest_on_a_busy_host(sandbox: Sandbox) -> None:
    sandbox.run("ssh", "s-1-VM", "true")
    [timeout_s] = [
        each.partition("=")[2] for each in sandbox.started[0] if each.startswith("ConnectTimeout=")
    ]
    assert int(timeout_s) >= 120, "its sshd was seen to need half a minute until it answered"


def test_new_host_key_replaces_the_old_one(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.run("ssh", "s-1-VM", "true")
    sandbox.answers["system_vm.ssh"] = {**TARGET, "host_keys": ["ssh-ed25519 AAAAnew"]}
    sandbox.run("ssh", "s-1-VM", "true")
    assert stored_host_keys(tmp_path) == {"s-1-VM": "s-1-VM ssh-ed25519 AAAAnew\n"}


def test_host_keys_of_two_clouds_are_stored_separately(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.run("ssh", "s-1-VM", "true")
    sandbox.answers["system_vm.ssh"] = {**TARGET, "host_keys": ["ssh-ed25519 AAAAother"]}
    CliRunner().invoke(main, ["--root", "/elsewhere", "ssh", "s-1-VM", "true"])
    files = sorted(path.read_text() for path in tmp_path.glob("systemvm/known_hosts/*/s-1-VM"))
    assert files == ["s-1-VM ssh-ed25519 AAAAkey\n", "s-1-VM ssh-ed25519 AAAAother\n"]


def test_ssh_prints_its_command_line(sandbox: Sandbox) -> None:
    printed = sandbox.run("ssh", "--print", "s-1-VM")
    assert not sandbox.started
    shown = sandbox.run("ssh", "s-1-VM")
    assert shlex.split(printed.stdout) == sandbox.started[0]
    assert printed.stdout.strip() in shown.stderr


def test_ssh_exits_with_the_code_of_the_command(sandbox: Sandbox) -> None:
    sandbox.exit_code = 7
    assert sandbox.run("ssh", "s-1-VM", "false").exit_code == 7


def test_ssh_fails_without_a_reported_host_key(sandbox: Sandbox) -> None:
    sandbox.answers["system_vm.ssh"] = {**TARGET, "host_keys": []}
    result = sandbox.run("ssh", "s-1-VM")
    assert result.exit_code == 1
    assert "systemvm serial s-1-VM" in result.stderr
    assert not sandbox.started


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (("s-1-VM:/etc/hosts", "."), ["root@169.254.3.4:/etc/hosts", "."]),
        (("./a:b", "s-1-VM:/tmp/"), ["./a:b", "root@169.254.3.4:/tmp/"]),
    ],
)
def test_cp_copies_in_and_out(sandbox: Sandbox, arguments: tuple[str, str], paths: list[str]) -> None:
    assert sandbox.run("cp", *arguments).exit_code == 0
    assert sandbox.started[0][-2:] == paths
    assert sandbox.started[0][2:5] == ["scp", "-P", "3922"]


@pytest.mark.parametrize("arguments", [("a", "b"), ("s-1-VM:/a", "v-2-VM:/b"), ("./s-1-VM:/a", "b")])
def test_cp_needs_one_path_in_a_vm(sandbox: Sandbox, arguments: tuple[str, str]) -> None:
    result = sandbox.run("cp", *arguments)
    assert result.exit_code == 2
    assert "NAME:PATH" in result.stderr


def test_failed_cp_exits_with_1(sandbox: Sandbox) -> None:
    sandbox.exit_code = 1
    assert sandbox.run("cp", "s-1-VM:/none", ".").exit_code == 1


def test_logs_quotes_the_journalctl_command_for_the_remote_shell(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "logs", "s-1-VM", "-f", "--since", "5 min ago; reboot", "--level", "warning", "-u", "x"
    )
    assert result.exit_code == 0, result.output
    assert shlex.split(sandbox.started[0][-1]) == [
        "journalctl", "--no-pager", "--output=short-iso", "--follow", "--since=5 min ago; reboot",
        "--priority=warning", "--unit=x",
    ]  # fmt: skip


def test_logs_of_an_unreachable_vm_suggests_serial(sandbox: Sandbox) -> None:
    sandbox.exit_code = 255
    result = sandbox.run("logs", "s-1-VM")
    assert result.exit_code == 1
    assert "systemvm serial s-1-VM" in result.stderr


def test_serial_follows_until_interrupted(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.answers["system_vm.serial"] = [
        {"path": "/log", "text": "one\n", "next_offset": 4},
        {"path": "/log", "text": "two\n", "next_offset": 8},
        {"path": "/log", "text": "", "next_offset": 8},
    ]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    result = sandbox.run("serial", "-f", "s-1-VM")
    assert result.exit_code == 0
    assert result.stdout == "one\ntwo\n\n"
    assert [params.get("offset") for _, params in sandbox.calls] == [None, 4, 8]


def test_serial_prints_json(sandbox: Sandbox) -> None:
    part = {"path": "/log", "text": "one\n", "next_offset": 4}
    sandbox.answers["system_vm.serial"] = part
    assert json.loads(sandbox.run("--json", "serial", "s-1-VM").stdout) == part


@pytest.mark.parametrize(
    ("arguments", "answer", "timeout_s"),
    [(("ssh", "s-1-VM"), TARGET, 60.0), (("check", "s-1-VM"), {"steps": []}, 120.0)],
)
def test_timeout_is_scaled_on_a_slow_machine(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    answer: Any,
    timeout_s: float,
) -> None:
    """The daemon waits longer for a guest on a slow machine, and the command waits for the daemon."""
    sandbox.answers[f"system_vm.{arguments[0]}"] = answer
    sandbox.run(*arguments)
    become_slow(monkeypatch)
    sandbox.run(*arguments)
    assert sandbox.timeouts_s == pytest.approx([timeout_s, timeout_s * 10])
