# SPDX-License-Identifier: Apache-2.0
"""Starts one guest on plain QEMU in its own network namespace, and observes it from outside."""

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

#: A guest whose console is silent for so long has hung, also under emulation on a shared machine.
BOOT_TIMEOUT_S = 420.0

#: Printed by an appliance without boot arguments: it has then started its own first program.
NO_BOOT_ARGUMENTS = "systemvm-preinit: REASON=no_boot_arguments"


class StartedGuest:
    """A running QEMU."""

    def __init__(self, process: subprocess.Popen[bytes], serial_log: Path) -> None:
        self.process = process
        self.serial_log = serial_log
        self.enter = ["nsenter", "--net", "--target", str(process.pid)]

    @property
    def console(self) -> str:
        """Return the output of the serial console so far."""
        return self.serial_log.read_text(errors="replace") if self.serial_log.exists() else ""

    def wait(self, what: str, holds: Callable[[], bool], silence_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until it holds; fail when QEMU ends, or its console is silent for `silence_s`."""
        seen, deadline = self.console, time.monotonic() + silence_s
        while not holds():
            console = self.console
            if console != seen:
                seen, deadline = console, time.monotonic() + silence_s
            assert self.process.poll() is None, f"QEMU ended before {what}: {console[-2000:]}"
            assert time.monotonic() < deadline, (
                f"no {what}, console silent for {silence_s:.0f} s: {console[-2000:]}"
            )
            time.sleep(0.5)  # a file that grows and a port that opens have no event to wait for


@contextmanager
def started(command: list[str], serial_log: Path) -> Iterator[StartedGuest]:
    """Run QEMU with loopback up, so that its forwarded ports can be reached from inside the namespace."""
    inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "qemu", *command]
    process = subprocess.Popen(inside)
    try:
        yield StartedGuest(process, serial_log)
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
    """Calls qemu-guest-agent from outside by its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def call(self, command: str, **arguments: Any) -> Any:
        """Call the agent once.

        Raises: OSError or ValueError while it does not answer.
        """
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(20)
            channel.connect(str(self._path))
            number = time.monotonic_ns() & 0x7FFFFFFF
            # unread replies to earlier commands are skipped
            channel.sendall(_line("guest-sync", {"id": number}) + _line(command, arguments))
            with channel.makefile("rb") as replies:
                for line in replies:
                    if json.loads(line) == {"return": number}:
                        return json.loads(replies.readline())["return"]
        raise OSError("the agent closed the connection")

    def run(self, *command: str) -> str:
        """Return a program's output."""
        started = self.call("guest-exec", path=command[0], arg=command[1:], **{"capture-output": True})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status = self.call("guest-exec-status", pid=started["pid"])
            if status["exited"]:
                return base64.b64decode(status.get("out-data", "")).decode()
            time.sleep(0.2)  # the agent offers no way to wait for a program
        raise AssertionError(f"{command} did not end within 60 s")

    def prints(self, command: list[str], expected: str) -> bool:
        """Return whether the command has this output; False while the agent does not answer."""
        try:
            return self.run(*command).strip() == expected
        except (OSError, ValueError):
            return False


def _line(command: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
