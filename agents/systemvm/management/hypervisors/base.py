# SPDX-License-Identifier: Apache-2.0
"""The interface of a hypervisor driver, and the values that describe a machine.

A driver's machines outlive it: `adopt` finds them again after a restart, and reports those that ended.
Its coroutines await Deferreds, as all of the daemon's do.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from attrs import field, frozen

from systemvm.host.architecture import Architecture
from systemvm.management.hypervisors.cd_drive import CdDrive
from systemvm.management.hypervisors.data_disks import DataDisk, MachineDisks
from systemvm.management.hypervisors.guest_agent import GuestAgent


class DomainState(enum.Enum):
    """The state of a machine as its hypervisor reports it."""

    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"

    @property
    def alive(self) -> bool:
        return self is not DomainState.EXITED


class ExitReason(enum.Enum):
    """Why a machine ended; the daemon restarts a system VM after every end that it did not request."""

    GUEST_SHUTDOWN = "guest-shutdown"  # the guest powered itself off
    GUEST_RESET = "guest-reset"  # a reboot inside a system VM is an exit, so that it gets fresh credentials
    GUEST_PANIC = "guest-panic"
    STOPPED = "stopped"  # by a request to the driver
    KILLED = "killed"  # the process died by a signal
    FAILED = "failed"  # the process ended with an error
    UNKNOWN = "unknown"  # it ended while no driver ran


@frozen
class DomainNic:
    """A network card; its position in `DomainSpec.nics` is its number in the guest: eth0, eth1, …"""

    traffic_type: str  # control | management | public | storage | guest
    bridge: str
    mac: str
    vlan: int | None = None  # of its port of the bridge; the guest sends and receives no tags
    model: str = "virtio-net-pci"


@frozen
class Disk:
    path: Path
    format: Literal["qcow2", "raw"] = "qcow2"
    read_only: bool = False
    bus: Literal["virtio"] = "virtio"


@frozen
class Uefi:
    """UEFI as two pflash devices: the program, and the variables of one machine, which it writes."""

    code: Path
    variables: Path


@frozen
class VncSpec:
    """The VNC server of the machine; the driver replaces port 0 by a free one at random."""

    address: str
    port: int
    password: str = field(repr=False)


@frozen
class DomainSpec:
    """The desired machine. Its secrets are excluded from `repr` and from every argv."""

    name: str
    uuid: str
    memory_mib: int
    vcpus: int
    nics: list[DomainNic]
    serial_log: Path
    disk: Disk | None = None
    data_disks: Sequence[DataDisk] = ()
    cdrom: Path | None = None  # the medium in the CD drive that each user's machine has
    config_drive: bytes | None = field(default=None, repr=False)  # an ISO 9660 image, on a second CD
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    credentials: Mapping[str, bytes] = field(factory=dict, repr=False)  # systemd credentials, by name
    vnc: VncSpec | None = None
    arch: Architecture = Architecture.AMD64
    uefi: Uefi | None = None  # None: the architecture's own firmware, which keeps no variables
    is_system: bool = False


@frozen
class DomainStatus:
    """The actual machine."""

    name: str
    uuid: str
    state: DomainState
    pid: int | None = None
    exit_reason: ExitReason | None = None
    vnc_address: str | None = None
    vnc_port: int | None = None
    vnc_ca_pem: str | None = None  # verifies its VNC server's certificate; None: it has no TLS
    serial_port: int | None = None  # the TCP port that its serial port is at, at vnc_address; None: none
    serial_fingerprint: str | None = None  # of the certificate there
    has_config_drive: bool = False


ExitCallback = Callable[[str, ExitReason], None]


class Hypervisor(Protocol):
    """A driver. Every method has a deadline of its own.

    Raises: HypervisorError when the hypervisor did not perform the operation.
    """

    async def start(self, spec: DomainSpec) -> DomainStatus:
        """Start a machine and wait until its CPUs run; the status has the VNC port that it got."""

    async def stop(self, name: str, *, forced: bool = False, timeout_s: float = 60.0) -> None:
        """Press the power button, and end the machine after `timeout_s`, or at once when `forced`.

        Does nothing when there is no such machine.
        """

    async def reset(self, name: str) -> None:
        """Press the reset button."""

    async def adopt(self) -> dict[str, DomainStatus]:
        """Take over the machines of an earlier daemon; the result includes those that have ended."""

    def status(self, name: str) -> DomainStatus | None:
        """Return what the driver knows without I/O."""

    def on_exit(self, callback: ExitCallback) -> None:
        """Call `callback(name, reason)` whenever a machine ends."""

    async def screenshot(self, name: str) -> bytes:
        """Return the screen as PPM (P6)."""

    async def press(self, name: str, chords: Sequence[Sequence[int]]) -> None:
        """Press and release the keys of each chord together, by QEMU's numbers, one chord after another."""

    async def set_vnc_password(self, name: str, password: str) -> None:
        """Replace the password of the machine's VNC server."""

    async def renew_screens(self) -> None:
        """Replace certificates of VNC servers that end soon; machines and open consoles continue."""

    def guest_agent(self, name: str) -> GuestAgent:
        """Return the client of the machine's guest agent, which needs no network.

        Raises: DomainNotFoundError when the machine does not run.
        """

    def disks(self, name: str) -> MachineDisks:
        """Return the disks of a running machine.

        Raises: DomainNotFoundError when the machine does not run.
        """

    def cd_drive(self, name: str) -> CdDrive:
        """Return the CD drive of a running machine.

        Raises: DomainNotFoundError when the machine does not run.
        """

    async def condition(self, name: str) -> str:
        """Return QEMU's run state of the machine: running, paused, io-error, guest-panicked, …"""

    async def resume(self, name: str) -> None:
        """Have a halted machine go on; a write that found no room is made again."""

    async def close(self) -> None:
        """Release all resources of the driver; the machines continue."""


class Taps(Protocol):
    """The network operations that a driver needs."""

    async def create_tap(self, name: str, bridge: str, *, isolated: bool, vlan: int | None = None) -> int:
        """Return the descriptor of a new tap on `bridge`, up; the tap exists while a descriptor is open."""

    async def remove_tap(self, name: str) -> None:
        """Remove a tap; does nothing when there is none."""
