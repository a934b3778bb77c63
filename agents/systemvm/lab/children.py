# SPDX-License-Identifier: Apache-2.0
"""The lab's programs: each in its namespace and session, with a log, watched while it starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from systemvm.lab.errors import LabError

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

    def wait_until(self, what: str, holds: Callable[[], bool], *, timeout_s: float) -> None:
        """LabError with the program's last words when it ends, or when it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if not self.running:
                raise LabError(
                    f"{self.title} ended ({self.process.returncode}) before {what}\n{self.last_lines()}",
                    f"its log is {self.log}",
                )
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.title}: still no {what} after {timeout_s:g} s\n{self.last_lines()}",
                    f"its log is {self.log}",
                )
            time.sleep(POLL_S)  # there is no event for a port that opens in another namespace

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
        argv = [sys.executable, "-m", "systemvm.lab.handover", *names, "--", *argv]
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
