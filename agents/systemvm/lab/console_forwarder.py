# SPDX-License-Identifier: Apache-2.0
"""Forwards the lab's console port to the CPVM by systemd-socket-proxyd, and follows the CPVM's address."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from systemvm.lab import children
from systemvm.lab.children import ChildProcess
from systemvm.lab.errors import LabError
from systemvm.lab.plan import LabPlan
from systemvm.lab.system_vm_status import is_up

_POLL_S = 2.0

SOCKET_PROXY = "/usr/lib/systemd/systemd-socket-proxyd"
#: The CPVM's name for the forwarder, which resolves it for every connection.
CONSOLE_NAME = "console.systemvm.internal"

#: A private /etc/hosts for one process; `ip netns exec` has already unshared its mounts.
_WITH_HOSTS = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'


class ConsoleForwarder:
    """Runs the forwarder; `list_system_vms` returns the system VMs as the API lists them."""

    def __init__(self, plan: LabPlan, list_system_vms: Callable[[], list[dict[str, Any]]]) -> None:
        self._plan = plan
        self._list_system_vms = list_system_vms
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, listener: socket.socket) -> ChildProcess:
        """Start the forwarder on `listener`, and the thread that updates the CPVM's address."""
        hosts = self._plan.hosts_file
        hosts.write_text("127.0.0.1 localhost\n")
        argv: list[str | Path] = [
            "sh", "-c", _WITH_HOSTS, "sh", hosts, SOCKET_PROXY, f"{CONSOLE_NAME}:8443",
        ]  # fmt: skip
        child = children.start(
            "systemd-socket-proxyd",
            self._plan.host_namespace,
            argv,
            self._plan.logs / "console-proxy.log",
            sockets={"console": listener},
        )
        self._stopping.clear()
        self._thread = threading.Thread(target=self._follow_address, name="console-address", daemon=True)
        self._thread.start()
        return child

    def stop(self) -> None:
        """Stop the thread; the forwarder itself ends with its namespace."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None

    def _follow_address(self) -> None:
        known = ""
        while not self._stopping.wait(_POLL_S):
            with contextlib.suppress(LabError):
                for vm in self._list_system_vms():
                    address = str(vm.get("publicip") or "")
                    if vm["systemvmtype"] == "consoleproxy" and is_up(vm) and address != known:
                        # written in place: a bind mount shows the inode and not the path
                        text = f"127.0.0.1 localhost\n{address} {CONSOLE_NAME}\n"
                        self._plan.hosts_file.write_text(text)
                        known = address
