# SPDX-License-Identifier: Apache-2.0
"""A double of CloudStack's KVM host (scripts/vm/hypervisor/kvm/patch.sh), which delivers boot arguments."""

from __future__ import annotations

import base64
import json
import socket
import time
from pathlib import Path
from typing import Any

SYNC_ID = 1234567890


class CloudStackHostDouble:
    """Send commands to qemu-guest-agent as `virsh qemu-agent-command` does."""

    def __init__(self, channel: Path, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(2)
        self._buffer = b""
        while True:
            try:
                self._socket.connect(str(channel))
                return
            except OSError:
                assert time.monotonic() < self._deadline, "QEMU did not make the channel"
                time.sleep(0.1)  # patch.sh's own pace

    def deliver(self, cmdline: str) -> None:
        """Ping the agent until it answers, synchronize, then open, write and close the file."""
        while self._request("guest-ping") is None:
            assert time.monotonic() < self._deadline, "the guest agent did not answer"
        self._send("guest-sync", {"id": SYNC_ID})
        while self._read_line() != {"return": SYNC_ID}:
            assert time.monotonic() < self._deadline, "guest-sync was not answered"
        handle = self._call("guest-file-open", {"path": "/var/cache/cloud/cmdline", "mode": "w+"})
        buffer = base64.b64encode(cmdline.encode()).decode()
        written = self._call("guest-file-write", {"handle": handle, "buf-b64": buffer})
        assert written["count"] == len(cmdline.encode())
        self._call("guest-file-close", {"handle": handle})
        self._socket.close()

    def _call(self, command: str, arguments: dict[str, Any]) -> Any:
        reply = None
        while reply is None:
            reply = self._request(command, arguments)
        assert "return" in reply, reply
        return reply["return"]

    def _request(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        self._send(command, arguments)
        return self._read_line()

    def _send(self, command: str, arguments: dict[str, Any] | None) -> None:
        message = {"execute": command} | ({"arguments": arguments} if arguments else {})
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _read_line(self) -> Any:
        try:
            while b"\n" not in self._buffer:
                self._buffer += self._socket.recv(65536)
        except TimeoutError:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)
