# SPDX-License-Identifier: Apache-2.0
"""Converts the description of a machine to QEMU's command line, which contains no secret."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from attrs import frozen

from systemvm.host.accelerator import Accelerator
from systemvm.launcher.arguments import SANDBOX
from systemvm.management.hypervisors.base import DomainSpec
from systemvm.management.hypervisors.cd_drive import CD_DRIVE, FIRST_MEDIUM
from systemvm.management.hypervisors.data_disks import (
    CONFIG_DRIVE,
    CONTROLLER,
    DataDisk,
    blockdev_of,
    device_of,
)
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.pki.screens import serial_client_name

#: Names go into paths, argv and taps.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

#: Display 0 of VNC.
FIRST_VNC_PORT = 5900

#: QEMU's fdset of the serial log, which the daemon opens: QEMU has no access to that directory.
SERIAL_SET = 1
#: That of the config drive, which is in memory and has no name.
CONFIG_DRIVE_SET = 2

#: TLS of the VNC server; CPVMs present no certificate, the password admits them.
_TLS_VERSIONS = "priority=NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
_SCREEN_CREDENTIALS = f"tls-creds-x509,id=screen,endpoint=server,verify-peer=off,{_TLS_VERSIONS}"
#: TLS of the serial port, which knows no password: a CPVM presents a certificate for this machine.
_SERIAL_CREDENTIALS = f"tls-creds-x509,id=serial,endpoint=server,verify-peer=on,{_TLS_VERSIONS}"

#: The traffic type whose bridge ports are isolated from one another.
CONTROL = "control"


@frozen
class InheritedDescriptors:
    """The descriptors and files that QEMU inherits or reads."""

    monitor_fd: int
    agent_fd: int
    tap_fds: list[int]
    serial_fd: int
    smbios_files: list[Path]
    vnc_port: int | None
    screen_directory: Path | None = None  # of the VNC server's certificate; None: it has no TLS
    serial_listen_fd: int | None = None  # None: the serial port only has a log
    serial_directory: Path | None = None  # of its certificate
    config_drive_fd: int | None = None


def check(spec: DomainSpec) -> None:
    """Check what QEMU would misread: a comma in a path would start another option.

    Raises: HypervisorError when a value cannot be used.
    """
    if not _NAME.fullmatch(spec.name):
        raise HypervisorError(f"{spec.name!r} is not a valid name of a machine")
    for nic in spec.nics:
        if not _MAC.fullmatch(nic.mac.lower()):
            raise HypervisorError(f"{spec.name}: {nic.mac!r} is not a MAC address")
    disk = spec.disk.path if spec.disk is not None else None
    files = [path for path in (disk, spec.cdrom, spec.kernel, spec.initrd) if path is not None]
    files += [data.path for data in spec.data_disks]
    files += [spec.uefi.variables] if spec.uefi is not None else []
    for path in [spec.serial_log, *files]:
        if not path.is_absolute():
            raise HypervisorError(f"{spec.name}: {path} is not an absolute path")
    for path in files:
        if not path.exists():
            raise HypervisorError(
                f"{spec.name}: {path} does not exist", "restore the file of its image or template"
            )
    if spec.uefi is not None and not spec.uefi.code.exists():
        raise HypervisorError(
            f"{spec.name}: {spec.uefi.code} does not exist", f"install Debian's {spec.arch.uefi_package}"
        )
    if spec.vnc is not None and len(spec.vnc.password.encode()) > 8:
        raise HypervisorError(f"{spec.name}: VNC password is too long, the maximum is 8 bytes")


def tap_names(spec: DomainSpec) -> list[str]:
    """Derive names of at most 15 characters from the UUID, so that they are unique and found again."""
    return [tap_name(spec.uuid, index) for index in range(len(spec.nics))]


def tap_name(uuid: str, device: int) -> str:
    return f"t{uuid.replace('-', '')[:10]}-{device}"


def command_line(
    spec: DomainSpec, binary: str, accelerator: Accelerator, inherited: InheritedDescriptors
) -> list[str]:
    """Return the whole command line; QMP sets the VNC password and starts the CPUs (`-S`)."""
    arguments = [
        binary,
        "-name", f"{spec.name},process=qemu:{spec.name}"[:80],
        "-uuid", spec.uuid,
        "-machine", spec.arch.board,
        *accelerator.arguments_for(spec.arch),
        *_firmware(spec),
        "-smp", str(spec.vcpus),
        "-m", f"{spec.memory_mib}M",
        "-nodefaults",
        "-no-user-config",
        "-rtc", "base=utc",
        "-msg", "timestamp=on",
        "-S",
        "-sandbox", SANDBOX,
        "-chardev", f"socket,id=monitor,fd={inherited.monitor_fd},server=on,wait=off",
        "-mon", "chardev=monitor,mode=control",
        "-object", "rng-builtin,id=rng0",
        "-device", "virtio-rng-pci,rng=rng0",
        "-add-fd", f"fd={inherited.serial_fd},set={SERIAL_SET}",
    ]  # fmt: skip
    arguments += _serial(spec, inherited)
    for index, (nic, tap) in enumerate(zip(spec.nics, inherited.tap_fds, strict=True)):
        arguments += ["-netdev", f"tap,id=net{index},fd={tap}"]
        arguments += ["-device", f"{nic.model},netdev=net{index},mac={nic.mac},romfile="]
    arguments += _disks(spec) + _config_drive(spec, inherited)
    return arguments + _boot(spec) + _display(spec, inherited) + _system(spec, inherited)


def _firmware(spec: DomainSpec) -> list[str]:
    """Return UEFI with the machine's variables, or the firmware that its architecture has by itself."""
    if spec.uefi is None:
        return spec.arch.firmware_arguments
    return [
        "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_value(spec.uefi.code)}",
        "-drive", f"if=pflash,unit=1,format=raw,file={_value(spec.uefi.variables)}",
    ]  # fmt: skip


def _serial(spec: DomainSpec, inherited: InheritedDescriptors) -> list[str]:
    """Return the first serial port, whose output is always in the log, with a client or without."""
    log = f"/dev/fdset/{SERIAL_SET}"
    if inherited.serial_listen_fd is None or inherited.serial_directory is None:
        return ["-chardev", f"file,id=serial0,append=on,path={log}", "-serial", "chardev:serial0"]
    socket = f"socket,id=serial0,fd={inherited.serial_listen_fd},server=on,wait=off"
    return [
        "-object", f"{_SERIAL_CREDENTIALS},dir={_value(inherited.serial_directory)}",
        "-object", f"authz-simple,id=serial-client,identity=CN={serial_client_name(spec.uuid)}",
        "-chardev", f"{socket},tls-creds=serial,tls-authz=serial-client,logfile={log},logappend=on",
        "-serial", "chardev:serial0",
    ]  # fmt: skip


def _disks(spec: DomainSpec) -> list[str]:
    arguments: list[str] = []
    if spec.disk is not None:
        # detect-zeroes and discard keep linked clones small
        options = "if=none,id=disk0,discard=unmap,detect-zeroes=unmap"
        read_only = "on" if spec.disk.read_only else "off"
        arguments += [
            "-drive",
            f"{options},format={spec.disk.format},readonly={read_only},file={_value(spec.disk.path)}",
        ]
        arguments += ["-device", "virtio-blk-pci,drive=disk0,bootindex=2"]
    if not spec.is_system:
        arguments += _cd_drive(spec)
        # without a disk, too: one can be attached while the machine runs
        arguments += ["-device", f"virtio-scsi-pci,id={CONTROLLER}"]
        for data in spec.data_disks:
            arguments += _data_disk(data)
    return arguments


def _cd_drive(spec: DomainSpec) -> list[str]:
    """Return the drive for ISOs: one that is in it boots before the disk, a later one only after it."""
    if spec.cdrom is None:
        return spec.arch.cd_drive_devices(f"id={CD_DRIVE},bootindex=3")
    return [
        "-drive",
        f"if=none,id={FIRST_MEDIUM},media=cdrom,format=raw,readonly=on,file={_value(spec.cdrom)}",
        *spec.arch.cd_drive_devices(f"id={CD_DRIVE},drive={FIRST_MEDIUM},bootindex=1"),
    ]


def _config_drive(spec: DomainSpec, inherited: InheritedDescriptors) -> list[str]:
    """Return the CD with the config drive, whose guest finds it by its label."""
    if inherited.config_drive_fd is None:
        return []
    blockdev = {
        "driver": "raw",
        "node-name": CONFIG_DRIVE,
        "read-only": True,
        "file": {"driver": "file", "filename": f"/dev/fdset/{CONFIG_DRIVE_SET}"},
    }
    return [
        "-add-fd", f"fd={inherited.config_drive_fd},set={CONFIG_DRIVE_SET}",
        "-blockdev", msgspec.json.encode(blockdev).decode(),
        "-device", f"{spec.arch.second_cd_device},drive={CONFIG_DRIVE}",
    ]  # fmt: skip


def _data_disk(disk: DataDisk) -> list[str]:
    # JSON: a file name can have any character
    blockdev = msgspec.json.encode(blockdev_of(disk)).decode()
    return ["-blockdev", blockdev, "-device", msgspec.json.encode(device_of(disk)).decode()]


def _boot(spec: DomainSpec) -> list[str]:
    arguments: list[str] = []
    if spec.kernel is not None:
        arguments += ["-kernel", str(spec.kernel)]
        arguments += ["-initrd", str(spec.initrd)] if spec.initrd is not None else []
        arguments += ["-append", spec.append] if spec.append else []
    return arguments


def _display(spec: DomainSpec, inherited: InheritedDescriptors) -> list[str]:
    if spec.vnc is None or inherited.vnc_port is None:
        return ["-display", "none"]
    address = f"[{spec.vnc.address}]" if ":" in spec.vnc.address else spec.vnc.address
    options = "password=on,share=force-shared"
    tls: list[str] = []
    if inherited.screen_directory is not None:
        options = f"tls-creds=screen,{options}"
        tls = ["-object", f"{_SCREEN_CREDENTIALS},dir={_value(inherited.screen_directory)}"]
    devices = spec.arch.display_device if spec.is_system else spec.arch.screen_devices
    return [*tls, "-vnc", f"{address}:{inherited.vnc_port - FIRST_VNC_PORT},{options}", *devices]


def _system(spec: DomainSpec, inherited: InheritedDescriptors) -> list[str]:
    arguments: list[str] = []
    if inherited.smbios_files:
        arguments += [
            "-smbios",
            ",".join(["type=11", *(f"path={_value(path)}" for path in inherited.smbios_files)]),
        ]
    if spec.is_system:
        # after a reboot from inside the credentials of the last start would be missing
        arguments += ["-action", "reboot=shutdown"]
    return arguments + _guest_channels(spec, inherited)


def _guest_channels(spec: DomainSpec, inherited: InheritedDescriptors) -> list[str]:
    """Return the channels of programs in the guest: QEMU's agent, and for a user's screen SPICE's.

    By the second one spice-vdagent joins the guest's clipboard with that of the VNC server.
    """
    channels = ["-device", "virtio-serial-pci"]
    channels += ["-chardev", f"socket,id=agent,fd={inherited.agent_fd},server=on,wait=off"]
    channels += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    if spec.vnc is not None and not spec.is_system:
        # the pointer is the tablet's, which needs no agent
        channels += ["-chardev", "qemu-vdagent,id=vdagent,name=vdagent,clipboard=on,mouse=off"]
        channels += ["-device", "virtserialport,chardev=vdagent,name=com.redhat.spice.0"]
    return channels


def _value(path: Path) -> str:
    """Escape commas in the value of a QEMU option."""
    return str(path).replace(",", ",,")
