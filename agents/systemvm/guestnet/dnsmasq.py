# SPDX-License-Identifier: Apache-2.0
"""Starts, reloads and ends the dnsmasq process of one bridge, whose files are in one directory."""

from __future__ import annotations

import signal
from pathlib import Path

from systemvm.guestnet.dnsmasq_files import DnsmasqFiles
from systemvm.guestnet.process import end, process_of
from systemvm.host.programs import run_program


class Dnsmasq:
    """A process that outlives this program."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def serve(self, files: DnsmasqFiles) -> None:
        """Have dnsmasq serve these files; does nothing when it does already.

        Raises: RefusedError when it cannot be started.
        """
        with process_of(self._directory / "pid", [self._option]) as process:
            configured = self._write("dnsmasq.conf", files.configuration)
            lines = self._read("dhcp-hosts")
            changed = [self._write("dhcp-hosts", files.dhcp_hosts), self._write("names", files.names)]
            # dnsmasq gives no address to a second MAC while it has a lease of the first
            is_taken_back = bool(set(lines.splitlines()) - set(files.dhcp_hosts.splitlines()))
            if process is not None and not configured and not is_taken_back:
                if any(changed):
                    signal.pidfd_send_signal(process, signal.SIGHUP)
                return
            if process is not None:
                end(process)
        (self._directory / "leases").unlink(missing_ok=True)
        self._start()

    def stop(self) -> None:
        """End the process, if there is one."""
        with process_of(self._directory / "pid", [self._option]) as process:
            if process is not None:
                end(process)

    def _start(self) -> None:
        """Start dnsmasq, which returns when it listens, and continues in the background."""
        run_program(
            ["dnsmasq", self._option],
            "dnsmasq-base",
            f"dnsmasq cannot be started on {self._directory.name}",
            hint="end the program that uses ports 53 and 67 of that bridge's addresses",
        )

    @property
    def _option(self) -> str:
        return f"--conf-file={self._directory / 'dnsmasq.conf'}"

    def _read(self, name: str) -> str:
        try:
            return (self._directory / name).read_text()
        except FileNotFoundError:
            return ""

    def _write(self, name: str, text: str) -> bool:
        """Replace a file at once; return whether it was different."""
        path = self._directory / name
        if path.exists() and path.read_text() == text:
            return False
        self._directory.mkdir(mode=0o700, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)
        return True
