# SPDX-License-Identifier: Apache-2.0
"""The lab's programs: each in its namespace and session, with a log, watched while it starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from systemvm.lab import activity
from systemvm.lab.reporting import Step
from systemvm.lab.waiting import EndedError, Look, wait_for

POLL_S = 0.1


class Child:
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
        """EndedError with the program's last words when it ends; StalledError when it does nothing."""

        def look() -> Look[bool]:
            if holds():
                return Look("", result=True)
            if not self.running:
                raise EndedError(
                    f"{self.title} ended ({self.process.returncode}) before {what}\n{self.last_lines()}",
                    f"its log is {self.log}",
                )
            log_bytes = activity.written_bytes(self.log)
            return Look(f"{self.title}: {what}", progress=log_bytes, activity=self.cpu_ticks())

        # there is no event for a port that opens in another namespace
        wait_for(look, step, self.last_lines, hang_s=hang_s, every_s=POLL_S)

    def cpu_ticks(self) -> int:
        """What it has used so far; the programs before it in its process (`ip netns exec`) included."""
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
        """Meanwhile it does nothing, and its sockets stay open: a service that hangs."""
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
    words: list[str | Path],
    log: Path,
    *,
    sockets: dict[str, socket.socket] | None = None,
    environment: dict[str, str] | None = None,
) -> Child:
    """Start a program in a namespace, with listening sockets if it wants any."""
    argv = [str(word) for word in words]
    descriptors: list[int] = []
    if sockets:
        descriptors = [listener.fileno() for listener in sockets.values()]
        names = [f"{name}={listener.fileno()}" for name, listener in sockets.items()]
        argv = [sys.executable, "-m", "systemvm.lab.socket_activation", *names, "--", *argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C is the lab's, which ends things in their order
            env={
                **os.environ,
                "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
                **(environment or {}),
            },
        )
    return Child(title, process, log)
