# SPDX-License-Identifier: Apache-2.0
"""The steps of preinit and its errors, with system calls that are only recorded."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from systemvm.guest import cmdline_delivery, preinit
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.paths import GuestPaths
from systemvm.wire import boot_arguments
from systemvm.wire.boot_failure import BootFailure

CMDLINE = (
    "type=secstorage name=s-1-VM host=169.254.0.1 port=8250 eth0ip=169.254.3.4 eth0mask=255.255.0.0 "
    "eth2ip=203.0.113.101 eth2mask=255.255.255.0 gateway=203.0.113.1 dns1=203.0.113.10 vmpassword=hunter2"
)
RULES = "table inet systemvm {\n set control_cidr { type ipv4_addr; flags interval; }\n}\n"


class RecordedCalls:
    def __init__(self, *present: str) -> None:
        self.present = list(present)
        self.commands: list[tuple[str, str]] = []
        self.host_name = ""
        self.clock_set: list[float] = []
        self.appears_after_modprobe: list[str] = []

    def run(self, command: list[str], text: str) -> None:
        self.commands.append((command[0], text))
        if command[0] == "modprobe":
            self.present += self.appears_after_modprobe
            if not self.appears_after_modprobe:
                raise BootError(BootFailure.COMMAND_FAILED, "modprobe: not found")

    def devices(self) -> Mapping[str, str]:
        return dict.fromkeys(self.present, "")

    def set_host_name(self, name: str) -> None:
        self.host_name = name

    def system_calls(self) -> preinit.SystemCalls:
        return preinit.SystemCalls(self.run, self.devices, self.set_host_name, self.clock_set.append)


@pytest.fixture
def paths(tmp_path: Path) -> GuestPaths:
    paths = GuestPaths(tmp_path / "root", tmp_path)
    paths.nftables.parent.mkdir(parents=True)
    paths.nftables.write_text(RULES)
    (tmp_path / boot_arguments.CMDLINE_CREDENTIAL).write_text(CMDLINE)
    return paths


def test_the_firewall_is_up_before_any_address(paths: GuestPaths) -> None:
    calls = RecordedCalls("eth0", "eth2")
    summary = preinit.prepare(paths, calls.system_calls())
    assert [name for name, _ in calls.commands] == ["nft", "ip", "ssh-keygen"]
    assert "control_cidr { 169.254.0.0/16 }" in calls.commands[0][1]
    assert "address replace 203.0.113.101/24" in calls.commands[1][1]
    assert summary == "s-1-VM is a ssvm: eth0 169.254.3.4/16, eth2 203.0.113.101/24"
    assert calls.host_name == paths.hostname.read_text().strip() == "s-1-VM"
    assert paths.boot_up_done.read_text().strip()
    assert "hunter2" not in paths.cmd_line_json.read_text()
    assert not paths.bootstrap_identity.exists()


def test_the_identity_is_stored_only_for_the_agent(paths: GuestPaths) -> None:
    credential = paths.system_identity
    credential.parent.mkdir(parents=True)
    credential.write_bytes(b"KEY")
    preinit.prepare(paths, RecordedCalls("eth0", "eth2").system_calls())
    assert paths.bootstrap_identity.read_bytes() == b"KEY"
    assert stat.S_IMODE(paths.bootstrap_identity.stat().st_mode) == 0o600
    assert not credential.exists()
    paths.bootstrap_identity.unlink()  # the agent does this after its first renewal
    preinit.prepare(paths, RecordedCalls("eth0", "eth2").system_calls())
    assert not paths.bootstrap_identity.exists()


def test_an_absent_nic_changes_nothing(paths: GuestPaths) -> None:
    calls = RecordedCalls("eth0")
    with pytest.raises(BootError, match="eth2") as error:
        preinit.prepare(paths, calls.system_calls())
    assert error.value.code is BootFailure.NIC_ABSENT
    assert [name for name, _ in calls.commands] == ["modprobe"]
    assert not paths.cmdline.exists()
    assert not paths.boot_up_done.exists()


def test_a_missing_driver_is_loaded(paths: GuestPaths) -> None:
    calls = RecordedCalls("eth0")
    calls.appears_after_modprobe = ["eth2"]
    preinit.prepare(paths, calls.system_calls())
    assert [name for name, _ in calls.commands] == ["modprobe", "nft", "ip", "ssh-keygen"]


def test_the_mark_of_an_earlier_boot_is_removed(paths: GuestPaths) -> None:
    paths.cache.mkdir(parents=True)
    paths.boot_up_done.write_text("yesterday")
    with pytest.raises(BootError):
        preinit.prepare(paths, RecordedCalls().system_calls())
    assert not paths.boot_up_done.exists()


def test_the_error_of_a_failing_program_is_reported() -> None:
    with pytest.raises(BootError, match=r"sh -c .* failed: it broke"):
        preinit.run(["sh", "-c", "echo it broke >&2; exit 3"])
    with pytest.raises(BootError, match="cannot run no-such-program"):
        preinit.run(["no-such-program"])


@pytest.mark.parametrize(
    ("cmdline", "kind"),
    [
        ("", BootFailure.NO_BOOT_ARGUMENTS),
        ("type=router name=x", BootFailure.BAD_BOOT_ARGUMENTS),
        (CMDLINE.replace("203.0.113.101", "203.0.113.400"), BootFailure.BAD_BOOT_ARGUMENTS),
    ],
)
def test_exit_codes_are_those_of_the_reason(
    paths: GuestPaths,
    cmdline: str,
    kind: BootFailure,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(paths.credentials))
    assert paths.credentials is not None
    (paths.credentials / boot_arguments.CMDLINE_CREDENTIAL).write_text(cmdline)
    assert preinit.main(["--root", str(paths.root)]) == kind.exit_code
    assert capsys.readouterr().err.startswith("systemvm-preinit: ")


def test_invalid_usage_exits_with_2() -> None:
    assert preinit.main(["--help"]) == 2


def test_preinit_does_not_import_large_modules() -> None:
    """Each import costs tens of milliseconds of an emulated boot."""
    program = "import sys, systemvm.guest.preinit; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    loaded = set(done.stdout.split())
    expensive = {
        "attr",
        "attrs",
        "msgspec",
        "twisted",
        "cryptography",
        "OpenSSL",
        "yaml",
        "argparse",
        "dataclasses",
        "inspect",
    }
    assert not loaded & expensive


def test_nics_are_renamed_first_and_unknown_keys_are_reported(paths: GuestPaths) -> None:
    assert paths.credentials is not None
    macs = "02:00:00:00:00:00||02:00:00:00:00:02"
    (paths.credentials / boot_arguments.CMDLINE_CREDENTIAL).write_text(
        f"{CMDLINE} nic_macs={macs} gatway=203.0.113.1"
    )
    calls = RecordedCalls("eth0", "eth2")
    order = [{"eth0": "02:00:00:00:00:02", "eth2": "02:00:00:00:00:00"}]
    order.append({"eth2": "02:00:00:00:00:02", "eth0": "02:00:00:00:00:00"})
    machine = calls.system_calls()._replace(devices=lambda: order.pop(0))
    summary = preinit.prepare(paths, machine)
    assert calls.commands[0] == ("ip", (
        "link set dev eth2 name was-eth2\nlink set dev eth0 name was-eth0\n"
        "link set dev was-eth2 name eth0\nlink set dev was-eth0 name eth2\n"
    ))  # fmt: skip
    assert summary.endswith("; ignored unknown keys: gatway")


def test_preinit_waits_for_a_host_that_writes_the_file(
    paths: GuestPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    without_credential = GuestPaths(paths.root)
    port = without_credential.root / "sys/class/virtio-ports/vport1p1"
    port.mkdir(parents=True)
    (port / "name").write_text(cmdline_delivery.PORT)
    (without_credential.root / "dev/virtio-ports").mkdir(parents=True)
    (without_credential.root / "dev/virtio-ports" / cmdline_delivery.PORT).touch()
    calls = RecordedCalls("eth0", "eth2")

    def run(command: list[str], text: str) -> None:
        calls.run(command, text)
        if command[0] == "systemctl":
            without_credential.cmdline.write_text(CMDLINE)

    preinit.prepare(without_credential, calls.system_calls()._replace(run=run))
    assert [name for name, _ in calls.commands] == ["systemctl", "nft", "ip", "ssh-keygen"]
    assert f"REASON={BootFailure.AWAITING_BOOT_ARGUMENTS.value}" in capsys.readouterr().err


def test_the_time_in_a_file_counts_from_its_modification(paths: GuestPaths) -> None:
    without_credential = GuestPaths(paths.root)
    without_credential.cache.mkdir(parents=True)
    true_s = time.time() + 86400
    without_credential.cmdline.write_text(f"{CMDLINE} clock={true_s:.0f}")
    os.utime(without_credential.cmdline, (time.time() - 30, time.time() - 30))
    calls = RecordedCalls("eth0", "eth2")
    assert "its clock was wrong by -864" in preinit.prepare(without_credential, calls.system_calls())
    [set_to_s] = calls.clock_set
    assert true_s + 29 < set_to_s < true_s + 630
    # the stored arguments have no time, so a second run does not set the clock
    assert "clock=" not in without_credential.cmdline.read_text()
    preinit.prepare(without_credential, calls.system_calls())
    assert calls.clock_set == [set_to_s]


def test_a_clock_that_cannot_be_set_is_reported(paths: GuestPaths) -> None:
    assert paths.credentials is not None
    (paths.credentials / boot_arguments.CMDLINE_CREDENTIAL).write_text(f"{CMDLINE} clock=1000000000")

    def refuse(unix_s: float) -> None:
        raise PermissionError(1, "Operation not permitted")

    summary = preinit.prepare(paths, RecordedCalls("eth0", "eth2").system_calls()._replace(set_clock=refuse))
    assert "s and cannot be set: [Errno 1] Operation not permitted" in summary
