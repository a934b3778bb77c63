# SPDX-License-Identifier: Apache-2.0
"""One guest on plain QEMU in its own network namespace, and its access from outside."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: A guest under emulation on a machine that others use besides.
BOOT_TIMEOUT_S = 420.0

#: Without boot arguments an appliance can only say so; it has then got as far as its own first program.
NO_BOOT_ARGUMENTS = "systemvm-preinit: REASON=no_boot_arguments"


class Started:
    """A running QEMU."""

    def __init__(self, process: subprocess.Popen[bytes], serial_log: Path) -> None:
        self.process = process
        self.serial_log = serial_log
        self.enter = ["nsenter", "--net", "--target", str(process.pid)]

    @property
    def said(self) -> str:
        """Return the output on the serial line so far."""
        return self.serial_log.read_text(errors="replace") if self.serial_log.exists() else ""

    def wait(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until it holds; fail with the end of the console's output when QEMU ends or time is over."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while not holds():
            assert self.process.poll() is None, f"QEMU ended before {what}: {self.said[-2000:]}"
            assert time.monotonic() < deadline, f"no {what} after {BOOT_TIMEOUT_S} s: {self.said[-2000:]}"
            time.sleep(0.5)  # a file that grows and a port that opens have no event to wait for


@contextmanager
def started(command: list[str], serial_log: Path) -> Iterator[Started]:
    """QEMU with loopback up, so that its forwarded ports can be reached from inside the namespace."""
    inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "qemu", *command]
    process = subprocess.Popen(inside)
    try:
        yield Started(process, serial_log)
    finally:
        process.kill()
        process.wait()


def guest_agent_arguments(path: Path) -> list[str]:
    """Return QEMU's arguments for the channel of qemu-guest-agent."""
    return [
        "-chardev", f"socket,id=agent,path={path},server=on,wait=off", "-device", "virtio-serial",
        "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
    ]  # fmt: skip


class GuestAgent:
    """qemu-guest-agent, asked from outside by its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, command: str, **arguments: Any) -> Any:
        """Call the agent once.

        Raises: OSError or ValueError while it does not answer.
        """
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(20)
            channel.connect(str(self._path))
            number = time.monotonic_ns() & 0x7FFFFFFF
            # what an earlier question left unread is passed over
            channel.sendall(_line("guest-sync", {"id": number}) + _line(command, arguments))
            with channel.makefile("rb") as answers:
                for line in answers:
                    if json.loads(line) == {"return": number}:
                        return json.loads(answers.readline())["return"]
        raise OSError("the agent hung up")

    def run(self, *words: str) -> str:
        """Return a program's output."""
        started = self.ask("guest-exec", path=words[0], arg=words[1:], **{"capture-output": True})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status = self.ask("guest-exec-status", pid=started["pid"])
            if status["exited"]:
                return base64.b64decode(status.get("out-data", "")).decode()
            time.sleep(0.2)  # the agent offers no way to wait for a program
        raise AssertionError(f"{words} did not end within 60 s")

    def says(self, words: list[str], wanted: str) -> bool:
        """Return whether the program has this output; False while the agent does not answer."""
        try:
            return self.run(*words).strip() == wanted
        except (OSError, ValueError):
            return False


def _line(command: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
