# SPDX-License-Identifier: Apache-2.0
"""Starts QEMU processes: writes the files that they read, and opens what they inherit."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
from datetime import UTC, datetime

from attrs import frozen

from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors import qemu_arguments, smbios
from systemvm.management.hypervisors.base import DomainSpec, VncSpec
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.launchers import FIRST_DESCRIPTOR, QemuLauncher
from systemvm.management.hypervisors.machine_record import MachineRecord, MachineRecords
from systemvm.management.hypervisors.memory_file import open_memory_file
from systemvm.management.hypervisors.process import DetachedProcess, listen_unix
from systemvm.management.hypervisors.serial_log import start_marker


@frozen
class QemuProgram:
    """The program; tests set `binary` to another one than that of the machine's architecture."""

    records: MachineRecords
    launcher: QemuLauncher
    accelerator: Accelerator
    binary: str | None = None

    def check(self, spec: DomainSpec) -> None:
        """Check a description.

        Raises: HypervisorError when QEMU cannot run the machine on this host.
        """
        qemu_arguments.check(spec)
        binary = self._binary_of(spec)
        if shutil.which(binary) is None:
            raise HypervisorError(
                f"{binary} is not installed", f"install Debian's {spec.arch.debian_package}"
            )

    def _binary_of(self, spec: DomainSpec) -> str:
        return self.binary or spec.arch.qemu

    async def spawn(
        self,
        spec: DomainSpec,
        record: MachineRecord,
        credentials: list[bytes],
        taps: list[int],
        serial: socket.socket | None = None,
    ) -> DetachedProcess:
        """Write QEMU's files and start it; it inherits its sockets, taps and log.

        `serial` listens for the client of its serial port.
        """
        records = self.records
        spec.serial_log.parent.mkdir(parents=True, exist_ok=True)
        files = smbios.write(records.directory, spec.name, credentials)
        with contextlib.ExitStack() as stack:
            inherited = list(taps)

            def inherit(descriptor: int) -> int:
                """Pass a descriptor on, and return its number in QEMU."""
                inherited.append(descriptor)
                return FIRST_DESCRIPTOR + len(inherited) - 1

            def listen(suffix: str) -> int:
                return inherit(stack.enter_context(listen_unix(records.path(spec.name, suffix))).fileno())

            log = os.open(spec.serial_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            stack.callback(os.close, log)
            if spec.is_system:
                moment = datetime.now(UTC).isoformat(timespec="seconds")
                os.write(log, start_marker(moment))
            config_drive_fd = None
            if spec.config_drive is not None:
                drive = open_memory_file(f"config drive of {spec.name}", spec.config_drive)
                stack.callback(os.close, drive)
                config_drive_fd = inherit(drive)
            descriptors = qemu_arguments.InheritedDescriptors(
                monitor_fd=listen("monitor"),
                agent_fd=listen("agent"),
                tap_fds=[FIRST_DESCRIPTOR + index for index in range(len(taps))],
                serial_fd=inherit(log),
                smbios_files=files,
                vnc_port=record.vnc_port,
                screen_directory=records.screen_directory(spec.name) if record.vnc_tls else None,
                serial_listen_fd=inherit(serial.fileno()) if serial is not None else None,
                serial_directory=records.serial_directory(spec.name) if serial is not None else None,
                config_drive_fd=config_drive_fd,
            )
            argv = qemu_arguments.command_line(spec, self._binary_of(spec), self.accelerator, descriptors)
            process = await DetachedProcess.start(
                self.launcher,
                spec.uuid,
                argv,
                stderr=records.path(spec.name, "stderr"),
                descriptors=inherited,
            )
        # for operators; a later daemon finds the process by its UUID
        records.path(spec.name, "pid").write_text(f"{process.pid}\n")
        return process


def free_vnc_port(vnc: VncSpec, allowed: range) -> int:
    """Return the requested port, or a random free one.

    Raises: HypervisorError when no port of the range can be bound.
    """
    if vnc.port:
        return vnc.port
    family = socket.AF_INET6 if ":" in vnc.address else socket.AF_INET
    ports = list(allowed)
    while ports:
        port = ports.pop(secrets.randbelow(len(ports)))
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((vnc.address, port))
            except OSError as e:
                if e.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue
                raise HypervisorError(f"VNC cannot listen on {vnc.address}: {e.strerror}") from e
            return port
    raise HypervisorError(
        f"all VNC ports on {vnc.address} are in use: {allowed[0]} to {allowed[-1]}",
        "stop a VM, or enlarge the range of ports in managementd.yaml",
    )
