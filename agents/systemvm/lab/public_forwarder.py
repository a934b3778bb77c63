# SPDX-License-Identifier: Apache-2.0
"""Forwards the lab's ports by systemd-socket-proxyd to the CPVM and the SSVM, and follows their addresses."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from systemvm.lab import children
from systemvm.lab.children import ChildProcess
from systemvm.lab.errors import LabError
from systemvm.lab.plan import LabPlan
from systemvm.lab.system_vm_status import is_up

_POLL_S = 2.0

SOCKET_PROXY = "/usr/lib/systemd/systemd-socket-proxyd"

#: A private /etc/hosts for one process; `ip netns exec` has already unshared its mounts.
_WITH_HOSTS = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'


@frozen
class ForwardedService:
    """A public service of a kind of system VM; its forwarder resolves `host_name` for every connection."""

    vm_type: str  # CloudStack's systemvmtype
    host_name: str
    port: int


CONSOLE = ForwardedService("consoleproxy", "console.systemvm.internal", 8443)
STORAGE = ForwardedService("secondarystoragevm", "storage.systemvm.internal", 443)
SERVICES = (CONSOLE, STORAGE)


class PublicForwarder:
    """Runs a forwarder for each service; `list_system_vms` returns the system VMs as the API lists them."""

    def __init__(self, plan: LabPlan, list_system_vms: Callable[[], list[dict[str, Any]]]) -> None:
        self._plan = plan
        self._list_system_vms = list_system_vms
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, listeners: Mapping[ForwardedService, socket.socket]) -> list[ChildProcess]:
        """Start a forwarder on each listener, and the thread that updates the system VMs' addresses."""
        self._plan.hosts_file.write_text(hosts({}))
        started = [self._start(service, listener) for service, listener in listeners.items()]
        self._stopping.clear()
        self._thread = threading.Thread(target=self._follow_addresses, name="public-addresses", daemon=True)
        self._thread.start()
        return started

    def _start(self, service: ForwardedService, listener: socket.socket) -> ChildProcess:
        argv: list[str | Path] = [
            "sh", "-c", _WITH_HOSTS, "sh", self._plan.hosts_file,
            SOCKET_PROXY, f"{service.host_name}:{service.port}",
        ]  # fmt: skip
        return children.start(
            "systemd-socket-proxyd",
            self._plan.host_namespace,
            argv,
            self._plan.logs / f"{service.vm_type}-forwarder.log",
            sockets={service.vm_type: listener},
        )

    def stop(self) -> None:
        """Stop the thread; the forwarders end with their namespace."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(30)
            self._thread = None

    def _follow_addresses(self) -> None:
        known: dict[ForwardedService, str] = {}
        while not self._stopping.wait(_POLL_S):
            with contextlib.suppress(LabError):
                found = known | addresses(self._list_system_vms())
                if found != known:
                    # written in place: a bind mount shows the inode and not the path
                    self._plan.hosts_file.write_text(hosts(found))
                    known = found


def addresses(system_vms: list[dict[str, Any]]) -> dict[ForwardedService, str]:
    """Return the public address of each service whose system VM is Up."""
    return {
        service: str(vm["publicip"])
        for service in SERVICES
        for vm in system_vms
        if vm["systemvmtype"] == service.vm_type and is_up(vm) and vm.get("publicip")
    }


def hosts(known: Mapping[ForwardedService, str]) -> str:
    """Return the text of /etc/hosts with the addresses that are known."""
    lines = ["127.0.0.1 localhost", *(f"{address} {service.host_name}" for service, address in known.items())]
    return "\n".join(lines) + "\n"
