# SPDX-License-Identifier: Apache-2.0
"""One image on different hardware: firmware, board, disk, delivery of credentials.

A covering set instead of all combinations; each boot ends with a check that only a started machine passes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.single_guest import IMAGES, Hardware, SingleGuest
from matrix.plain_guest import (
    BOOT_TIMEOUT_S,
    NO_BOOT_ARGUMENTS,
    GuestAgent,
    guest_agent_arguments,
    started,
)
from present import present
from systemvm.host.architecture import Architecture
from systemvm.management.pki.control import ControlAuthority
from systemvm.wire.role import Role

pytestmark = [pytest.mark.image, pytest.mark.netns, pytest.mark.timeout(3600)]

SSH_PORT = 2222
MEMORY_MIB = {Role.SSVM: 512, Role.CPVM: 256}
ARM = Hardware(Architecture.ARM64, "virt", "uefi")
WITH_CREDENTIALS = [
    (Role.SSVM, Hardware(board="pc", loader="bios", credentials="smbios")),
    (Role.CPVM, Hardware(board="q35", loader="uefi", credentials="fw_cfg")),
    (Role.CPVM, Hardware(board="pc", loader="kernel", credentials="fw_cfg")),
    (Role.SSVM, ARM),
]
WITHOUT = [
    (Role.CPVM, Hardware(board="q35", loader="bios", disk="ide", credentials="none")),
    (Role.SSVM, Hardware(board="pc", loader="uefi", disk="ide", credentials="none")),
]
#: How long the guest waits for boot arguments by the guest agent: longer on a slow machine.
WAITING = re.compile(r"REASON=awaiting_boot_arguments .*waiting up to (\d+) s")
BOARDS = {
    "pc": "Standard PC (i440FX + PIIX",
    "q35": "Standard PC (Q35 + ICH9",
    "virt": "QEMU Virtual Machine",
}


def _name(value: object) -> str:
    if isinstance(value, Role):
        return value.value
    assert isinstance(value, Hardware)
    parts = (value.architecture.value, value.board, value.loader, value.disk, value.credentials)
    return "-".join(parts)


def _skip_unbuilt(role: Role, hardware: Hardware) -> None:
    name = hardware.architecture.image_name(role.value)
    if not (IMAGES / f"{name}.manifest.json").exists():
        pytest.skip(f"needs `make images ARCH={hardware.architecture.value}`")


@pytest.mark.parametrize(("role", "hardware"), WITH_CREDENTIALS, ids=_name)
def test_a_guest_boots_with_ssh(role: Role, hardware: Hardware, tmp_path: Path) -> None:
    """The operator's key is accepted on port 3922, and the VM has the requested name."""
    _skip_unbuilt(role, hardware)
    authority = ControlAuthority.open(tmp_path)
    guest = SingleGuest(role, tmp_path, authority, SSH_PORT, MEMORY_MIB[role], hardware)
    with started(guest.command(), guest.serial_log) as machine:
        guest.enter = machine.enter
        machine.wait("ssh on port 3922", lambda: guest.ssh("true").returncode == 0)
        about = guest.ssh(
            "uname -m; hostname; cat /sys/class/dmi/id/product_name;"
            " test -d /sys/firmware/efi && echo uefi || echo bios;"
            " systemctl show -P Result systemvm-preinit.service"
        ).stdout.splitlines()
    assert about[:2] == [hardware.architecture.machine_name, guest.name]
    assert about[2].startswith(BOARDS[hardware.board])
    assert about[3:] == ["uefi" if hardware.loader == "uefi" else "bios", "success"]


@pytest.mark.parametrize(("role", "hardware"), WITHOUT, ids=_name)
def test_a_guest_without_boot_arguments_reports_what_is_missing(
    role: Role, hardware: Hardware, tmp_path: Path
) -> None:
    """Without kernel, credentials and network the console shows the reason, and the guest reaches multi-user.

    Only the guest agent can confirm multi-user, but its port makes the guest wait for boot arguments by it:
    minutes under emulation, so only the case with UEFI has that port.
    """
    _skip_unbuilt(role, hardware)
    serial_log = tmp_path / "serial.log"
    agent = GuestAgent(tmp_path / "agent")
    command = [
        *hardware.arguments(role.value), "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
        "-serial", f"file:{serial_log}",
    ]  # fmt: skip
    has_guest_agent = hardware.loader == "uefi"
    if has_guest_agent:
        command += guest_agent_arguments(tmp_path / "agent")
    with started(command, serial_log) as machine:
        silence_s = BOOT_TIMEOUT_S
        if has_guest_agent:
            machine.wait("wait for boot arguments", lambda: bool(WAITING.search(machine.console)))
            silence_s += float(present(WAITING.search(machine.console))[1])
        machine.wait("reason on the console", lambda: NO_BOOT_ARGUMENTS in machine.console, silence_s)
        machine.wait("hint on the console", lambda: "HINT=" in machine.console)
        if has_guest_agent:
            is_active = ["systemctl", "is-active", "multi-user.target"]
            machine.wait("multi-user.target", lambda: agent.prints(is_active, "active"))
            assert agent.prints(["ls", "-d", "/sys/firmware/efi"], "/sys/firmware/efi")
