# SPDX-License-Identifier: Apache-2.0
"""Which accelerator QEMU gets; always named, because QEMU's own detection believes any /dev/kvm."""

from __future__ import annotations

import enum
import os
from pathlib import Path


class Accelerator(enum.Enum):
    KVM = "kvm"
    TCG = "tcg"

    @property
    def arguments(self) -> list[str]:
        if self is Accelerator.KVM:
            return ["-accel", "kvm", "-cpu", "host"]
        # by QEMU's default the translation cache makes a guest cost 1.2 GB; with 128 MiB it boots as fast
        return ["-accel", "tcg,tb-size=128", "-cpu", "max"]

    @property
    def patience(self) -> float:
        """By how much waits for a guest are longer than on real virtualization."""
        return 1.0 if self is Accelerator.KVM else 4.0

    @classmethod
    def from_config(cls, name: str) -> Accelerator:
        """`kvm`, `tcg`, or `auto` for what this machine can do."""
        return probe() if name == "auto" else cls(name)


def probe(device: Path = Path("/dev/kvm"), cpuinfo: Path = Path("/proc/cpuinfo")) -> Accelerator:
    """KVM if the CPU says it can and the device opens; nested hosts offer a device that hangs every guest."""
    words = cpuinfo.read_text().split()
    if not {"vmx", "svm"} & set(words):
        return Accelerator.TCG
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return Accelerator.TCG
    return Accelerator.KVM
