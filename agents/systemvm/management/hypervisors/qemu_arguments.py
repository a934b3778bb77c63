# SPDX-License-Identifier: Apache-2.0
"""A machine's description as QEMU's command line: a pure function, and nothing secret comes out of it."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from systemvm.host.accelerator import Accelerator
from systemvm.launcher.arguments import SANDBOX
from systemvm.management.hypervisors.base import DomainSpec
from systemvm.management.hypervisors.errors import HypervisorError

#: Names go into paths, argv and taps.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

#: Display 0 of VNC.
FIRST_VNC_PORT = 5900

#: QEMU's number for the serial log, which the daemon opens: QEMU itself has no way into that directory.
SERIAL_SET = 1

#: What the daemon's firewall knows as the control network; its ports cannot reach one another.
CONTROL = "control"


@frozen
class InheritedDescriptors:
    """What QEMU inherits or finds beside the description."""

    monitor_fd: int
    agent_fd: int | None
    tap_fds: list[int]
    serial_fd: int
    smbios_files: list[Path]
    vnc_port: int | None


def check(spec: DomainSpec) -> None:
    """Refuse at once what QEMU would misread; a comma in a path would start another option."""
    if not _NAME.fullmatch(spec.name):
        raise HypervisorError(f"{spec.name!r} is no name for a machine")
    for nic in spec.nics:
        if not _MAC.fullmatch(nic.mac.lower()):
            raise HypervisorError(f"{spec.name}: {nic.mac!r} is no MAC address")
    disk = spec.disk.path if spec.disk is not None else None
    files = [path for path in (disk, spec.cdrom, spec.kernel, spec.initrd) if path is not None]
    for path in [spec.serial_log, *files]:
        if not path.is_absolute():
            raise HypervisorError(f"{spec.name}: {path} is not an absolute path")
    for path in files:
        if not path.exists():
            raise HypervisorError(f"{spec.name}: {path} does not exist", "was its image or template removed?")
    if spec.vnc is not None and len(spec.vnc.password.encode()) > 8:
        raise HypervisorError(f"{spec.name}: a VNC password has at most 8 characters")


def tap_names(spec: DomainSpec) -> list[str]:
    """Derived from the UUID, so that they are found again and never clash; at most 15 characters."""
    return [f"t{spec.uuid.replace('-', '')[:10]}-{index}" for index in range(len(spec.nics))]


def command_line(
    spec: DomainSpec, binary: str, accelerator: Accelerator, channels: InheritedDescriptors
) -> list[str]:
    """All of it; the VNC password and the CPUs' start follow through QMP (`-S`)."""
    words = [
        binary,
        "-name", f"{spec.name},process=qemu:{spec.name}"[:80],
        "-uuid", spec.uuid,
        "-machine", spec.arch.board,
        *accelerator.arguments_for(spec.arch),
        *spec.arch.firmware_arguments,
        "-smp", str(spec.vcpus),
        "-m", f"{spec.memory_mib}M",
        "-nodefaults",
        "-no-user-config",
        "-rtc", "base=utc",
        "-msg", "timestamp=on",
        "-S",
        "-sandbox", SANDBOX,
        "-chardev", f"socket,id=monitor,fd={channels.monitor_fd},server=on,wait=off",
        "-mon", "chardev=monitor,mode=control",
        "-object", "rng-builtin,id=rng0",
        "-device", "virtio-rng-pci,rng=rng0",
        "-add-fd", f"fd={channels.serial_fd},set={SERIAL_SET}",
        "-chardev", f"file,id=serial0,append=on,path=/dev/fdset/{SERIAL_SET}",
        "-serial", "chardev:serial0",
    ]  # fmt: skip
    for number, (nic, tap) in enumerate(zip(spec.nics, channels.tap_fds, strict=True)):
        words += ["-netdev", f"tap,id=net{number},fd={tap}"]
        words += ["-device", f"{nic.model},netdev=net{number},mac={nic.mac},romfile="]
    return words + _disks(spec) + _boot(spec) + _screen(spec, channels) + _system(spec, channels)


def _disks(spec: DomainSpec) -> list[str]:
    words: list[str] = []
    if spec.disk is not None:
        # detect-zeroes and discard keep linked clones small
        options = "if=none,id=disk0,discard=unmap,detect-zeroes=unmap"
        read_only = "on" if spec.disk.read_only else "off"
        words += [
            "-drive",
            f"{options},format={spec.disk.format},readonly={read_only},file={_value(spec.disk.path)}",
        ]
        words += ["-device", "virtio-blk-pci,drive=disk0,bootindex=2"]
    if spec.cdrom is not None:
        words += ["-drive", f"if=none,id=cd0,media=cdrom,format=raw,readonly=on,file={_value(spec.cdrom)}"]
        words += spec.arch.cdrom_devices
    return words


def _boot(spec: DomainSpec) -> list[str]:
    words: list[str] = []
    if spec.kernel is not None:
        words += ["-kernel", str(spec.kernel)]
        words += ["-initrd", str(spec.initrd)] if spec.initrd is not None else []
        words += ["-append", spec.append] if spec.append else []
    return words


def _screen(spec: DomainSpec, channels: InheritedDescriptors) -> list[str]:
    if spec.vnc is None or channels.vnc_port is None:
        return ["-display", "none"]
    address = f"[{spec.vnc.address}]" if ":" in spec.vnc.address else spec.vnc.address
    return [
        "-vnc", f"{address}:{channels.vnc_port - FIRST_VNC_PORT},password=on,share=force-shared",
        *spec.arch.screen_devices,
    ]  # fmt: skip


def _system(spec: DomainSpec, channels: InheritedDescriptors) -> list[str]:
    words: list[str] = []
    if channels.smbios_files:
        words += [
            "-smbios",
            ",".join(["type=11", *(f"path={_value(path)}" for path in channels.smbios_files)]),
        ]
    if spec.is_system:
        # a reboot from inside would meet the credentials of the last start, which are gone
        words += ["-action", "reboot=shutdown"]
    if channels.agent_fd is not None:
        words += ["-chardev", f"socket,id=agent,fd={channels.agent_fd},server=on,wait=off"]
        words += ["-device", "virtio-serial-pci"]
        words += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    return words


def _value(path: Path) -> str:
    """QEMU's escape for a comma in an option's value."""
    return str(path).replace(",", ",,")
