# SPDX-License-Identifier: Apache-2.0
"""CloudStack's own way in: the hypervisor's host writes `/var/cache/cloud/cmdline` through qemu-guest-agent.

A host that does so has given the machine a virtio-serial port for the guest agent and no credential. Whoever
has neither is told at once; there is nothing to wait for.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from systemvm.guest import boot_argument_source, files
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.paths import GuestPaths
from systemvm.service.slowness import scaled_s
from systemvm.wire.boot_failure import BootFailure

PORT = "org.qemu.guest_agent.0"
UNIT = "qemu-guest-agent.service"
#: As long as upstream's init.sh waits, on ordinary hardware.
WAIT_S = 60.0
_TURN_S = 0.2
_IN_CLOSE_WRITE, _IN_MOVED_TO = 0x8, 0x80
_EVENT = struct.Struct("iIII")


def has_port(paths: GuestPaths) -> bool:
    """Whether the machine has the guest agent's port; the kernel's own list, since udev may be later."""
    ports = paths.root / "sys/class/virtio-ports"
    try:
        return any((port / "name").read_text().strip() == PORT for port in ports.iterdir())
    except OSError:
        return False


def receive(
    paths: GuestPaths,
    start_unit: Callable[[], None],
    report_waiting: Callable[[str, float], None],
    timeout_s: float | None = None,
) -> str:
    """The boot arguments, from wherever they come; BootError NO_BOOT_ARGUMENTS when none do in time."""
    try:
        return boot_argument_source.read(paths)
    except BootError as error:
        if error.code is not BootFailure.NO_BOOT_ARGUMENTS or not has_port(paths):
            raise
    wait_s = scaled_s(WAIT_S) if timeout_s is None else timeout_s
    # qemu-ga makes files for everyone to read and write; this one it finds
    files.write(paths.cmdline, "", 0o600)
    report_waiting(
        f"no credential came; waiting up to {wait_s:.0f} s for {paths.cmdline} by qemu-guest-agent", wait_s
    )
    with _ClosedFileWatch(paths.cmdline.parent) as closings:
        _wait(paths, start_unit, closings, wait_s)
    try:
        return boot_argument_source.read(paths)
    except BootError as error:
        if error.code is not BootFailure.NO_BOOT_ARGUMENTS:
            raise
        raise BootError(
            BootFailure.NO_BOOT_ARGUMENTS,
            f"there is no systemd credential, and nobody wrote {paths.cmdline} in {wait_s:.0f} s",
            "the host must write it through qemu-guest-agent: guest-file-open, -write and -close",
        ) from error


def _wait(
    paths: GuestPaths, start_unit: Callable[[], None], closings: _ClosedFileWatch, wait_s: float
) -> None:
    """Until the file is closed with something in it: half of it may be there before."""
    device = paths.root / "dev/virtio-ports" / PORT
    started = False
    end_s = monotonic() + wait_s
    while (left_s := end_s - monotonic()) > 0:
        if not started and device.exists():  # udev has named the port
            start_unit()
            started = True
        written = closings.within(min(left_s, left_s if started else _TURN_S))
        if paths.cmdline.name in written and paths.cmdline.stat().st_size:
            return


class _ClosedFileWatch:
    """Names of files in a directory that somebody has finished writing (inotify(7))."""

    def __init__(self, directory: Path) -> None:
        import ctypes  # only a machine that waits pays for it

        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = _IN_CLOSE_WRITE | _IN_MOVED_TO
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(directory), mask) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {directory}")

    def __enter__(self) -> _ClosedFileWatch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def within(self, timeout_s: float) -> set[str]:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return set()
        events = os.read(self._fd, 65536)
        names: set[str] = set()
        position = 0
        while position < len(events):
            length = _EVENT.unpack_from(events, position)[3]
            position += _EVENT.size
            names.add(events[position : position + length].rstrip(b"\0").decode(errors="replace"))
            position += length
        return names
