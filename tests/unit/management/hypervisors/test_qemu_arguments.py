# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line: its options, and no secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from systemvm.host.accelerator import Accelerator
from systemvm.host.architecture import Architecture
from systemvm.launcher.arguments import check as check_allowed
from systemvm.management.hypervisors import qemu_arguments
from systemvm.management.hypervisors.base import Disk, DomainNic, DomainSpec, Uefi, VncSpec
from systemvm.management.hypervisors.errors import HypervisorError

CHANNELS = qemu_arguments.InheritedDescriptors(
    monitor_fd=7,
    agent_fd=8,
    tap_fds=[3, 4],
    serial_fd=9,
    smbios_files=[],
    vnc_port=5923,
)


@pytest.fixture
def spec(tmp_path: Path) -> DomainSpec:
    for name in ("disk.qcow2", "boot.iso", "vmlinuz", "initrd"):
        (tmp_path / name).touch()
    return DomainSpec(
        name="s-1-VM",
        uuid="8a3f1c52-3e0f-4b5e-9c1d-000000000001",
        memory_mib=512,
        vcpus=1,
        nics=[
            DomainNic("control", "cloud0", "0e:00:a9:fe:03:07"),
            DomainNic("management", "cloudbr1", "1e:00:00:00:00:01"),
        ],
        serial_log=tmp_path / "log/serial.log",
        disk=Disk(tmp_path / "disk.qcow2"),
        kernel=tmp_path / "vmlinuz",
        initrd=tmp_path / "initrd",
        append="root=/dev/vda1 ro quiet",
        credentials={"systemvm.identity": b"-----PRIVATE-----", "systemvm.cmdline": b"vmpassword=hunter2"},
        vnc=VncSpec("10.11.0.1", 0, "s3cr3t!!"),
        is_system=True,
    )


def command_line(spec: DomainSpec, channels: qemu_arguments.InheritedDescriptors = CHANNELS) -> list[str]:
    return qemu_arguments.command_line(spec, "qemu-system-x86_64", Accelerator.TCG, channels)


def after(arguments: list[str], option: str) -> list[str]:
    return [arguments[index + 1] for index, arg in enumerate(arguments) if arg == option]


def test_command_line_has_no_secret(spec: DomainSpec) -> None:
    text = " ".join(command_line(spec))
    for secret in ("PRIVATE", "hunter2", "s3cr3t!!"):
        assert secret not in text
        assert secret not in repr(spec)


def test_the_machine_waits_for_its_password_before_it_runs(spec: DomainSpec) -> None:
    arguments = command_line(spec)
    assert "-S" in arguments
    assert after(arguments, "-vnc") == ["10.11.0.1:23,password=on,share=force-shared"]


def test_a_vnc_server_with_a_certificate_offers_only_tls_1_2_and_later(spec: DomainSpec) -> None:
    arguments = command_line(spec, evolve(CHANNELS, screen_directory=Path("/run/a,b/i-2-3-VM.screen")))
    assert after(arguments, "-vnc") == ["10.11.0.1:23,tls-creds=screen,password=on,share=force-shared"]
    [credentials] = [value for value in after(arguments, "-object") if value.startswith("tls-creds")]
    assert credentials == (
        "tls-creds-x509,id=screen,endpoint=server,verify-peer=off,"
        "priority=NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2,dir=/run/a,,b/i-2-3-VM.screen"
    )
    check_allowed(arguments)


def test_a_system_vm_has_a_display_and_no_usb(spec: DomainSpec) -> None:
    devices = after(command_line(spec), "-device")
    assert "VGA" in devices
    assert not [device for device in devices if "usb" in device or "xhci" in device]
    users = after(command_line(evolve(spec, is_system=False)), "-device")
    assert "usb-tablet,bus=usb.0" in users


def test_network_cards_keep_their_order_and_have_no_boot_rom(spec: DomainSpec) -> None:
    cards = [arg for arg in after(command_line(spec), "-device") if arg.startswith("virtio-net-pci")]
    assert cards == [
        "virtio-net-pci,netdev=net0,mac=0e:00:a9:fe:03:07,romfile=",
        "virtio-net-pci,netdev=net1,mac=1e:00:00:00:00:01,romfile=",
    ]
    assert after(command_line(spec), "-netdev")[0] == "tap,id=net0,fd=3"


def test_a_users_screen_has_the_channel_of_spices_agent(spec: DomainSpec) -> None:
    """By it the guest's clipboard is the VNC server's."""
    user = evolve(spec, is_system=False)
    arguments = command_line(user)
    assert "qemu-vdagent,id=vdagent,name=vdagent,clipboard=on,mouse=off" in after(arguments, "-chardev")
    devices = after(arguments, "-device")
    assert "virtserialport,chardev=vdagent,name=com.redhat.spice.0" in devices
    assert devices.count("virtio-serial-pci") == 1
    for other in (command_line(spec), command_line(evolve(user, vnc=None))):
        assert "spice" not in " ".join(other)


def test_a_system_vms_reboot_is_an_exit_and_every_vm_has_a_guest_agent(spec: DomainSpec) -> None:
    user = command_line(evolve(spec, is_system=False))
    assert after(command_line(spec), "-action") == ["reboot=shutdown"]
    assert "-action" not in user
    for arguments in (command_line(spec), user):
        assert any("org.qemu.guest_agent.0" in arg for arg in after(arguments, "-device"))


def test_accelerator_is_named_and_emulation_has_a_small_cache(spec: DomainSpec) -> None:
    assert after(command_line(spec), "-accel") == ["tcg,tb-size=128"]
    kvm = qemu_arguments.command_line(spec, "q", Accelerator.KVM, CHANNELS)
    assert after(kvm, "-accel") == ["kvm"]


def test_credentials_are_passed_by_file(spec: DomainSpec) -> None:
    files = [Path("/run/a,b.smbios0"), Path("/run/c.smbios1")]
    arguments = command_line(spec, evolve(CHANNELS, smbios_files=files))
    assert after(arguments, "-smbios") == ["type=11,path=/run/a,,b.smbios0,path=/run/c.smbios1"]


def test_an_iso_boots_before_the_disk_and_is_read_only(spec: DomainSpec) -> None:
    iso = spec.serial_log.parent.parent / "boot.iso"
    arguments = command_line(evolve(spec, is_system=False, cdrom=iso, kernel=None))
    assert "ide-cd,bus=ide.0,id=cdrom0,drive=cd0,bootindex=1" in after(arguments, "-device")
    assert "virtio-blk-pci,drive=disk0,bootindex=2" in after(arguments, "-device")
    cdrom = next(arg for arg in after(arguments, "-drive") if "media=cdrom" in arg)
    assert "readonly=on" in cdrom
    assert "-kernel" not in arguments


@pytest.mark.parametrize(
    ("arch", "device"),
    [
        (Architecture.AMD64, "ide-cd,bus=ide.0,id=cdrom0,bootindex=3"),
        (Architecture.ARM64, "scsi-cd,bus=scsi0.0,id=cdrom0,bootindex=3"),
    ],
)
def test_each_users_machine_has_a_cd_drive_which_boots_after_the_disk_when_it_is_empty(
    spec: DomainSpec, arch: Architecture, device: str
) -> None:
    arguments = command_line(evolve(spec, is_system=False, arch=arch))
    assert device in after(arguments, "-device")
    assert check_allowed(arguments) == arguments
    assert "-cd," not in " ".join(after(command_line(spec), "-device"))


@pytest.mark.parametrize(
    ("arch", "device"),
    [
        (Architecture.AMD64, "ide-cd,bus=ide.1,drive=config"),
        (Architecture.ARM64, "scsi-cd,bus=data.0,scsi-id=0,drive=config"),
    ],
)
def test_a_config_drive_is_a_read_only_cd_beside_the_iso(
    spec: DomainSpec, arch: Architecture, device: str
) -> None:
    iso = spec.serial_log.parent.parent / "boot.iso"
    machine = evolve(spec, is_system=False, arch=arch, config_drive=b"secret", cdrom=iso)
    arguments = command_line(machine, evolve(CHANNELS, config_drive_fd=12))
    assert "fd=12,set=2" in after(arguments, "-add-fd")
    assert device in after(arguments, "-device")
    assert any("drive=cd0,bootindex=1" in each for each in after(arguments, "-device"))
    assert json.loads(after(arguments, "-blockdev")[0]) == {
        "driver": "raw",
        "node-name": "config",
        "read-only": True,
        "file": {"driver": "file", "filename": "/dev/fdset/2"},
    }
    assert check_allowed(arguments) == arguments
    assert "secret" not in str(arguments)
    assert "secret" not in repr(machine)


def test_no_display_without_vnc(spec: DomainSpec) -> None:
    arguments = command_line(evolve(spec, vnc=None), evolve(CHANNELS, vnc_port=None))
    assert after(arguments, "-display") == ["none"]
    assert "-vnc" not in arguments


def test_ipv6_address_of_vnc_is_bracketed(spec: DomainSpec) -> None:
    arguments = command_line(evolve(spec, vnc=VncSpec("fd00::1", 0, "x")))
    assert after(arguments, "-vnc")[0].startswith("[fd00::1]:23,")


def test_taps_are_short_and_follow_the_uuid(spec: DomainSpec) -> None:
    assert qemu_arguments.tap_names(spec) == ["t8a3f1c523e-0", "t8a3f1c523e-1"]
    assert all(len(name) <= 15 for name in qemu_arguments.tap_names(spec))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "not a valid name of a machine"),
        ({"name": "a,b"}, "not a valid name of a machine"),
        ({"nics": [DomainNic("public", "cloudbr0", "1e:00")]}, "not a MAC address"),
        ({"kernel": Path("vmlinuz")}, "not an absolute path"),
        ({"disk": Disk(Path("/no/such/disk"))}, "/no/such/disk does not exist"),
        ({"vnc": VncSpec("10.11.0.1", 0, "ninechars")}, "the maximum is 8 bytes"),
    ],
)
def test_values_that_qemu_would_misread_are_rejected(
    spec: DomainSpec, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(HypervisorError, match=message):
        qemu_arguments.check(evolve(spec, **changes))
    qemu_arguments.check(spec)


@pytest.mark.parametrize("arch", list(Architecture))
def test_uefi_has_a_program_that_is_read_only_and_variables_of_the_machine(
    spec: DomainSpec, tmp_path: Path, arch: Architecture
) -> None:
    uefi = Uefi(tmp_path / "CODE.fd", tmp_path / "a,b.fd")
    user = evolve(spec, is_system=False, arch=arch)
    arguments = command_line(evolve(user, uefi=uefi))
    assert [drive for drive in after(arguments, "-drive") if drive.startswith("if=pflash")] == [
        f"if=pflash,unit=0,format=raw,readonly=on,file={tmp_path}/CODE.fd",
        f"if=pflash,unit=1,format=raw,file={tmp_path}/a,,b.fd",
    ]
    assert "-bios" not in arguments
    check_allowed(arguments)
    assert "pflash" not in " ".join(command_line(user))
    uefi.variables.touch()
    with pytest.raises(HypervisorError, match=r"CODE\.fd does not exist") as missing:
        qemu_arguments.check(evolve(user, uefi=uefi))
    assert arch.uefi_package in missing.value.hint
    uefi.code.touch()
    qemu_arguments.check(evolve(user, uefi=uefi))
    uefi.variables.unlink()
    with pytest.raises(HypervisorError, match=r"a,b\.fd does not exist"):
        qemu_arguments.check(evolve(user, uefi=uefi))
