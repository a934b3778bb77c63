# SPDX-License-Identifier: Apache-2.0
"""Which accelerator QEMU uses; always given explicitly, because QEMU accepts any /dev/kvm."""

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
        """Return QEMU's arguments; KVM runs only the host's own architecture, others are emulated."""
        if self is Accelerator.KVM and architecture.is_this_hosts:
            return ["-accel", "kvm", "-cpu", "host"]
        # with QEMU's default translation cache a guest needs 1.2 GB; with 128 MiB it boots as fast
        return ["-accel", "tcg,tb-size=128", "-cpu", architecture.emulated_cpu]

    @property
    def timeout_scale(self) -> float:
        """The factor by which waits for a guest are longer than with KVM."""
        return 1.0 if self is Accelerator.KVM else 4.0

    @classmethod
    def from_config(cls, name: str, opens_kvm: Callable[[], bool]) -> Accelerator:
        """Return the accelerator for `kvm`, `tcg`, or `auto`, which probes the host."""
        return probe(opens_kvm) if name == "auto" else cls(name)


class GuestTimeoutScale:
    """The factor for waits for guests of this host, by its accelerator and its own slowness."""

    def __init__(self, accelerator: Accelerator, host: TimeoutScale = slowness.timeout_scale) -> None:
        self._accelerator = accelerator
        self._host = host

    def __call__(self) -> float:
        return min(self._accelerator.timeout_scale * self._host(), slowness.MAX_SCALE)


def probe(opens_kvm: Callable[[], bool], cpuinfo: Path = Path("/proc/cpuinfo")) -> Accelerator:
    """Return KVM if the CPU supports it and QEMU's user can open it.

    The CPU is checked because some nested hosts have a /dev/kvm in which every guest hangs.
    """
    flags = cpuinfo.read_text().split()
    # ARM's cpuinfo has no such flag: there the device exists only if it works
    if platform.machine() == "x86_64" and not {"vmx", "svm"} & set(flags):
        return Accelerator.TCG
    return Accelerator.KVM if opens_kvm() else Accelerator.TCG
