# SPDX-License-Identifier: Apache-2.0
"""Boot arguments as CloudStack's KVM host delivers them: a file that it writes through qemu-guest-agent.

Such a host gives the VM a virtio-serial port for the guest agent and no credential. A VM that has neither
fails at once.
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
#: As long as CloudStack's init.sh waits; scaled on slow machines.
WAIT_S = 60.0
_POLL_S = 0.2
_IN_CLOSE_WRITE, _IN_MOVED_TO = 0x8, 0x80
_EVENT = struct.Struct("iIII")


def has_port(paths: GuestPaths) -> bool:
    """Return whether the VM has the guest agent's port, by the kernel's list: udev can be later."""
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
    """Return the boot arguments from the credential, or wait until the host has written the file.

    Raises: BootError when there are none within the timeout, or they cannot be read.
    """
    try:
        return boot_argument_source.read(paths)
    except BootError as error:
        if error.code is not BootFailure.NO_BOOT_ARGUMENTS or not has_port(paths):
            raise
    wait_s = scaled_s(WAIT_S) if timeout_s is None else timeout_s
    # qemu-ga creates files with mode 0666, so the file is created before
    files.write(paths.cmdline, "", 0o600)
    report_waiting(
        f"no credential came; waiting up to {wait_s:.0f} s for {paths.cmdline} from qemu-guest-agent", wait_s
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
            f"no systemd credential exists, and {paths.cmdline} was not written within {wait_s:.0f} s",
            "write the file through qemu-guest-agent: guest-file-open, -write and -close",
        ) from error


def _wait(
    paths: GuestPaths, start_unit: Callable[[], None], closings: _ClosedFileWatch, wait_s: float
) -> None:
    """Wait until the file is closed and not empty: before, it can be incomplete."""
    device = paths.root / "dev/virtio-ports" / PORT
    started = False
    end_s = monotonic() + wait_s
    while (left_s := end_s - monotonic()) > 0:
        if not started and device.exists():  # udev has created the port's name
            start_unit()
            started = True
        written = closings.within(min(left_s, left_s if started else _POLL_S))
        if paths.cmdline.name in written and paths.cmdline.stat().st_size:
            return


class _ClosedFileWatch:
    """Names of files in a directory that were closed after writing (inotify(7))."""

    def __init__(self, directory: Path) -> None:
        import ctypes  # expensive to import, and only needed to wait

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
        """Return the names closed within `timeout_s`; empty when there are none."""
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
