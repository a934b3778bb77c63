# SPDX-License-Identifier: Apache-2.0
"""Which accelerator QEMU gets; always named, because QEMU's own detection believes any /dev/kvm."""

from __future__ import annotations

import enum
import platform
from collections.abc import Callable
from pathlib import Path

from systemvm.host.architecture import Architecture
from systemvm.service import slowness
from systemvm.service.slowness import TimeoutScale


class Accelerator(enum.Enum):
    KVM = "kvm"
    TCG = "tcg"

    def arguments_for(self, architecture: Architecture) -> list[str]:
        """KVM runs the host's own architecture alone; another one's machines are emulated."""
        if self is Accelerator.KVM and architecture.is_this_hosts:
            return ["-accel", "kvm", "-cpu", "host"]
        # by QEMU's default the translation cache makes a guest cost 1.2 GB; with 128 MiB it boots as fast
        return ["-accel", "tcg,tb-size=128", "-cpu", architecture.emulated_cpu]

    @property
    def timeout_scale(self) -> float:
        """By how much waits for a guest are longer than on real virtualization."""
        return 1.0 if self is Accelerator.KVM else 4.0

    @classmethod
    def from_config(cls, name: str, opens_kvm: Callable[[], bool]) -> Accelerator:
        """`kvm`, `tcg`, or `auto` for what this machine can do."""
        return probe(opens_kvm) if name == "auto" else cls(name)


class GuestTimeoutScale:
    """What waits for guests of this host are multiplied by: emulation, and how slow the host itself is."""

    def __init__(self, accelerator: Accelerator, host: TimeoutScale = slowness.timeout_scale) -> None:
        self._accelerator = accelerator
        self._host = host

    def __call__(self) -> float:
        return min(self._accelerator.timeout_scale * self._host(), slowness.MAX_SCALE)


def probe(opens_kvm: Callable[[], bool], cpuinfo: Path = Path("/proc/cpuinfo")) -> Accelerator:
    """KVM if the CPU says it can and QEMU's user may; nested hosts offer a device that hangs every guest."""
    words = cpuinfo.read_text().split()
    # ARM's cpuinfo has no word for it: there the kernel offers the device only where it can
    if platform.machine() == "x86_64" and not {"vmx", "svm"} & set(words):
        return Accelerator.TCG
    return Accelerator.KVM if opens_kvm() else Accelerator.TCG
