# SPDX-License-Identifier: Apache-2.0
"""What the daemon asks of any hypervisor: a machine described as a value, and a driver that runs it.

A driver's machines outlive it: `adopt` finds them again after a restart, and tells of those that ended.
Its coroutines await Deferreds, as all of the daemon's do.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from attrs import field, frozen

from systemvm.host.architecture import Architecture
from systemvm.service.errors import FailureCode, SystemVmError


class HypervisorError(SystemVmError):
    """Something that a hypervisor could not do; `message` says what was wrong, `hint` what to do about it."""

    code = FailureCode.UNAVAILABLE


class DomainNotFoundError(HypervisorError):
    """The driver runs no machine of that name."""


class DomainState(enum.Enum):
    """What a machine is doing, as its hypervisor sees it."""

    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"

    @property
    def alive(self) -> bool:
        return self is not DomainState.EXITED


class ExitReason(enum.Enum):
    """Why a machine ended; the daemon starts a system VM again after every one that it did not ask for."""

    GUEST_SHUTDOWN = "guest-shutdown"  # the guest powered itself off
    GUEST_RESET = "guest-reset"  # a system VM's own reboot is an exit, so that it gets fresh credentials
    GUEST_PANIC = "guest-panic"
    STOPPED = "stopped"  # the driver was asked to
    KILLED = "killed"  # the process died by a signal
    FAILED = "failed"  # the process ended with an error
    UNKNOWN = "unknown"  # it ended while no driver was looking


@frozen
class DomainNic:
    """A network card; their order in `DomainSpec.nics` is their order in the guest: eth0, eth1, …"""

    traffic_type: str  # control | management | public | storage | guest
    bridge: str
    mac: str
    model: str = "virtio-net-pci"


@frozen
class Disk:
    path: Path
    format: Literal["qcow2", "raw"] = "qcow2"
    read_only: bool = False
    bus: Literal["virtio"] = "virtio"


@frozen
class VncSpec:
    """Where the screen is served; port 0 lets the driver choose a free one at random."""

    address: str
    port: int
    password: str = field(repr=False)


@frozen
class DomainSpec:
    """A machine as it is to be; holds secrets, which are out of its `repr` and of every argv."""

    name: str
    uuid: str
    memory_mib: int
    vcpus: int
    nics: list[DomainNic]
    serial_log: Path
    disk: Disk | None = None
    cdrom: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    credentials: Mapping[str, bytes] = field(factory=dict, repr=False)  # systemd credentials, by name
    vnc: VncSpec | None = None
    arch: Architecture = Architecture.AMD64
    is_system: bool = False


@frozen
class DomainStatus:
    """A machine as it is."""

    name: str
    uuid: str
    state: DomainState
    pid: int | None = None
    exit_reason: ExitReason | None = None
    vnc_address: str | None = None
    vnc_port: int | None = None


ExitCallback = Callable[[str, ExitReason], None]


class Hypervisor(Protocol):
    """A driver. Every method has a deadline of its own and raises HypervisorError."""

    async def start(self, spec: DomainSpec) -> DomainStatus:
        """Start a machine and come back when its CPUs run; the status tells the VNC port that was taken."""

    async def stop(self, name: str, *, forced: bool = False, timeout_s: float = 60.0) -> None:
        """Press the power button, and end it after `timeout_s`, or at once when `forced`.

        Fine when there is no such machine.
        """

    async def reset(self, name: str) -> None:
        """Press the reset button."""

    async def adopt(self) -> dict[str, DomainStatus]:
        """Take over machines that an earlier daemon started, and tell of those that are gone."""

    def status(self, name: str) -> DomainStatus | None:
        """What is known now, without asking anyone."""

    def on_exit(self, callback: ExitCallback) -> None:
        """Call `callback(name, reason)` whenever a machine ends, for whatever reason."""

    async def screenshot(self, name: str) -> bytes:
        """The screen, as PNG."""

    async def set_vnc_password(self, name: str, password: str) -> None:
        """Replace the password of the machine's screen."""

    async def close(self) -> None:
        """Let go of everything; the machines live on."""


class Taps(Protocol):
    """What a driver needs of the host's networks."""

    async def create_tap(self, name: str, bridge: str, *, isolated: bool) -> int:
        """The descriptor of a tap that is a port of `bridge`, up; it is there as long as one is open."""

    async def remove_tap(self, name: str) -> None:
        """Fine when it is not there."""
