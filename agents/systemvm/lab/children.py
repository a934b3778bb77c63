# SPDX-License-Identifier: Apache-2.0
"""The lab's programs, each in its namespace and session and with a log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from systemvm.lab import activity, namespaces
from systemvm.lab.reporting import Step
from systemvm.lab.waiting import EndedError, WaitState, wait_for

POLL_S = 0.1


class ChildProcess:
    """One running program."""

    def __init__(self, title: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.title = title
        self.process = process
        self.log = log

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def last_lines(self, count: int = 6) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"  | {line}" for line in lines[-count:])

    def wait_until(self, what: str, holds: Callable[[], bool], step: Step, *, hang_s: float | None) -> None:
        """Wait until `holds` returns True.

        Raises: EndedError with the end of the log when the program ends, StalledError when it does nothing.
        """

        def look() -> WaitState[bool]:
            if holds():
                return WaitState("", result=True)
            if not self.running:
                raise EndedError(
                    f"{self.title} ended ({self.process.returncode}) before {what}\n{self.last_lines()}",
                    f"see {self.log}",
                )
            log_bytes = activity.written_bytes(self.log)
            return WaitState(f"{self.title}: {what}", progress=log_bytes, activity=self.cpu_ticks())

        # no event reports a port that opens in another namespace
        wait_for(look, step, self.last_lines, hang_s=hang_s, every_s=POLL_S)

    def cpu_ticks(self) -> int:
        """Return its CPU time, including programs that ran before in the same process (`ip netns exec`)."""
        return activity.cpu_ticks(self.process.pid)

    def stop(self, *, grace_s: float = 10.0) -> None:
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Stop the process (SIGSTOP) in the block, with its sockets open, like a service that hangs."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start(
    title: str,
    namespace: str,
    command: list[str | Path],
    log: Path,
    *,
    sockets: dict[str, socket.socket] | None = None,
    environment: dict[str, str] | None = None,
    own_mounts: bool = True,
) -> ChildProcess:
    """Start a program in a namespace, optionally with inherited listening sockets.

    Without `own_mounts` what it mounts is mounted for the host, and for what shares that with the host.
    """
    argv = [str(argument) for argument in command]
    descriptors: list[int] = []
    if sockets:
        descriptors = [listener.fileno() for listener in sockets.values()]
        names = [f"{name}={listener.fileno()}" for name, listener in sockets.items()]
        argv = [sys.executable, "-m", "systemvm.lab.socket_activation", *names, "--", *argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*(namespaces.enter(namespace) if not own_mounts else ("ip", "netns", "exec", namespace)), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C goes only to the lab, which stops programs in order
            env={
                **os.environ,
                "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
                **(environment or {}),
            },
        )
    return ChildProcess(title, process, log)
