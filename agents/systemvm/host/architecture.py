# SPDX-License-Identifier: Apache-2.0
"""What depends on a VM's processor architecture: QEMU's program, board, firmware and devices.

The names are Debian's. CloudStack's API uses `x86_64` and `aarch64` (com.cloud.cpu.CPU.CPUArch); both are
accepted wherever an architecture is read.
"""

from __future__ import annotations

import enum
import platform
from pathlib import Path


class Architecture(enum.Enum):
    """The architecture of a VM and its images."""

    AMD64 = "amd64"
    ARM64 = "arm64"

    @classmethod
    def of(cls, name: str | None) -> Architecture:
        """Return the architecture with Debian's or CloudStack's name, without case; amd64 for no name.

        Raises: ValueError when the name is unknown.

        >>> Architecture.of("aarch64")
        <Architecture.ARM64: 'arm64'>
        """
        wanted = (name or cls.AMD64.value).lower()
        for architecture in cls:
            if wanted in (architecture.value, architecture.machine_name):
                return architecture
        known = ", ".join(f"{item.value} ({item.machine_name})" for item in cls)
        raise ValueError(f"unknown architecture: {name!r}; known ones: {known}")

    @property
    def machine_name(self) -> str:
        """The name that `uname -m` and CloudStack's API use."""
        return {self.AMD64: "x86_64", self.ARM64: "aarch64"}[self]

    @property
    def is_this_hosts(self) -> bool:
        """Whether it is this host's architecture; others are emulated."""
        return platform.machine() == self.machine_name

    @property
    def qemu(self) -> str:
        return f"qemu-system-{self.machine_name}"

    @property
    def debian_package(self) -> str:
        """The Debian package of `qemu`, for hints."""
        return {self.AMD64: "qemu-system-x86", self.ARM64: "qemu-system-arm and qemu-efi-aarch64"}[self]

    @property
    def board(self) -> str:
        """QEMU's -machine."""
        return {self.AMD64: "q35", self.ARM64: "virt"}[self]

    @property
    def emulated_cpu(self) -> str:
        """QEMU's -cpu for emulation; ARM's `max` would spend its time on pointer authentication."""
        return {self.AMD64: "max", self.ARM64: "cortex-a72"}[self]

    @property
    def uefi(self) -> Path:
        """Debian's UEFI for it, as QEMU's -bios takes it (packages ovmf and qemu-efi-aarch64)."""
        return {
            self.AMD64: Path("/usr/share/ovmf/OVMF.fd"),
            self.ARM64: Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
        }[self]

    @property
    def uefi_code(self) -> Path:
        """Debian's UEFI for it without its variables, as QEMU's first pflash takes it."""
        return {
            self.AMD64: Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
            self.ARM64: Path("/usr/share/AAVMF/AAVMF_CODE.fd"),
        }[self]

    @property
    def uefi_variables(self) -> Path:
        """The variables of a new machine, of which each has a copy of its own."""
        return {
            self.AMD64: Path("/usr/share/OVMF/OVMF_VARS_4M.fd"),
            self.ARM64: Path("/usr/share/AAVMF/AAVMF_VARS.fd"),
        }[self]

    @property
    def uefi_package(self) -> str:
        """The Debian package of these two files, for hints."""
        return {self.AMD64: "ovmf", self.ARM64: "qemu-efi-aarch64"}[self]

    @property
    def has_uefi(self) -> bool:
        """Whether users' machines can boot by UEFI on this host."""
        return self.uefi_code.exists() and self.uefi_variables.exists()

    @property
    def firmware_arguments(self) -> list[str]:
        """QEMU's own BIOS for a PC; UEFI for ARM, which also provides SMBIOS with the credentials."""
        return [] if self is Architecture.AMD64 else ["-bios", str(self.uefi)]

    @property
    def console(self) -> str:
        """The kernel's name of the first serial port."""
        return {self.AMD64: "ttyS0", self.ARM64: "ttyAMA0"}[self]

    def cd_drive_devices(self, options: str) -> list[str]:
        """Return the device of the first CD drive, and the controller that it needs."""
        if self is Architecture.AMD64:
            return ["-device", f"ide-cd,bus=ide.0,{options}"]
        return ["-device", "virtio-scsi-pci,id=scsi0", "-device", f"scsi-cd,bus=scsi0.0,{options}"]

    @property
    def second_cd_device(self) -> str:
        """The device of a second CD, which is not booted; on ARM it is on the controller of data disks."""
        return {self.AMD64: "ide-cd,bus=ide.1", self.ARM64: "scsi-cd,bus=data.0,scsi-id=0"}[self]

    @property
    def display_device(self) -> list[str]:
        """The display without input devices of its own: a system VM uses no USB."""
        return ["-device", {self.AMD64: "VGA", self.ARM64: "virtio-gpu-pci"}[self]]

    @property
    def screen_devices(self) -> list[str]:
        """The display, and an absolute pointer, so that the browser's and the guest's pointer match."""
        tablet = ["-device", "qemu-xhci,id=usb", "-device", "usb-tablet,bus=usb.0"]
        if self is Architecture.AMD64:
            return [*self.display_device, *tablet]  # the board has a PS/2 keyboard
        return [*self.display_device, *tablet, "-device", "usb-kbd,bus=usb.0"]

    def image_name(self, role: str) -> str:
        """Return the base name of a role's image files; the default amd64 is not part of it.

        >>> Architecture.AMD64.image_name("ssvm"), Architecture.ARM64.image_name("ssvm")
        ('ssvm', 'ssvm-arm64')
        """
        return role if self is Architecture.AMD64 else f"{role}-{self.value}"
