# SPDX-License-Identifier: Apache-2.0
"""Starts, finds, kills and reaps the QEMU processes of one user, each in its own session."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from systemvm.service.unix_calls import RefusedError

#: The first descriptor that a started program inherits beyond standard input, output and error.
FIRST_DESCRIPTOR = 3
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class Processes:
    """Has the exit codes of the processes that it started; finds and kills any process of its user."""

    def __init__(self) -> None:
        self._children: set[int] = set()
        self._codes: dict[int, int] = {}

    def start(self, argv: list[str], stderr: int, descriptors: Sequence[int]) -> int:
        """Start a process and return its id; `descriptors` become 3, 4, … in it.

        Raises: RefusedError when the program is not installed or cannot be started.
        """
        self.reap()
        program = shutil.which(argv[0], path=_ENVIRONMENT["PATH"])
        if program is None:
            raise RefusedError(f"{argv[0]} is not installed", "install Debian's qemu-system-x86")
        last = FIRST_DESCRIPTOR + len(descriptors)
        # first moved to descriptors that do not collide with the final numbers
        parked = [
            fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, last) for descriptor in (stderr, *descriptors)
        ]
        try:
            pid = os.posix_spawn(
                program,
                argv,
                _ENVIRONMENT,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, parked[0], 1),
                    (os.POSIX_SPAWN_DUP2, parked[0], 2),
                    *(
                        (os.POSIX_SPAWN_DUP2, descriptor, FIRST_DESCRIPTOR + number)
                        for number, descriptor in enumerate(parked[1:])
                    ),
                ],
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
                setsigmask=[],
            )
        except OSError as error:
            raise RefusedError(f"cannot start {program}: {error.strerror}") from error
        finally:
            for descriptor in parked:
                os.close(descriptor)
        self._children.add(pid)
        self._codes.pop(pid, None)
        return pid

    def find(self, uuid: str) -> int | None:
        """Return the process of this user that runs the VM `uuid`, None if there is none."""
        for directory in Path("/proc").glob("[0-9]*"):
            if self._runs(directory, uuid):
                return int(directory.name)
        return None

    def kill(self, pid: int, uuid: str) -> None:
        """Send SIGKILL to the process of this VM; do nothing when it has ended.

        Raises: RefusedError when the process is not that VM's.
        """
        try:
            descriptor = os.pidfd_open(pid)
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.EINVAL):
                return
            raise
        try:
            # the process id is not reused while the descriptor is open
            if self._runs(Path(f"/proc/{pid}"), uuid) is False:
                raise RefusedError(f"process {pid} is not VM {uuid}")
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code, negative for a signal; None while it runs, or if it is not a child."""
        self.reap()
        return self._codes.pop(pid, None)

    def reap(self) -> None:
        for pid in list(self._children):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # reaped elsewhere
                self._children.discard(pid)
                continue
            if ended:
                self._children.discard(pid)
                self._codes[pid] = os.waitstatus_to_exitcode(status)
        while len(self._codes) > 1000:
            self._codes.pop(next(iter(self._codes)))

    @property
    def children(self) -> frozenset[int]:
        return frozenset(self._children)

    @staticmethod
    def _runs(directory: Path, uuid: str) -> bool | None:
        """Return whether the process runs the VM; None when it has ended or is a zombie."""
        try:
            arguments = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if directory.stat().st_uid != os.geteuid():
                return False
        except (FileNotFoundError, ProcessLookupError):
            return None
        return ("-uuid", uuid) in itertools.pairwise(arguments) if arguments != [""] else None
