# SPDX-License-Identifier: Apache-2.0
"""Starts, reloads and ends the dnsmasq process of one bridge, whose files are in one directory."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from systemvm.guestnet.dnsmasq_files import DnsmasqFiles
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError

_START_S = 20.0
_END_S = 5.0


class Dnsmasq:
    """A process that outlives this program: it is found by its pid file and its command line."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def serve(self, files: DnsmasqFiles) -> None:
        """Have dnsmasq serve these files; does nothing when it does already.

        Raises: RefusedError when it cannot be started.
        """
        with self._process() as process:
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
                _end(process)
        (self._directory / "leases").unlink(missing_ok=True)
        self._start()

    def stop(self) -> None:
        """End the process, if there is one, and delete its files."""
        with self._process() as process:
            if process is not None:
                _end(process)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> None:
        """Start dnsmasq, which returns when it listens, and continues in the background."""
        try:
            done = subprocess.run(
                ["dnsmasq", self._option],
                capture_output=True,
                text=True,
                timeout=scaled_s(_START_S),
                check=False,
            )
        except FileNotFoundError as error:
            raise RefusedError("dnsmasq is not installed", "install Debian's dnsmasq-base") from error
        except subprocess.TimeoutExpired as error:
            raise RefusedError(f"dnsmasq did not start within {scaled_s(_START_S):.0f} s") from error
        if done.returncode != 0:
            raise RefusedError(
                f"dnsmasq cannot be started on {self._directory.name}: {done.stderr.strip()[-300:]}",
                "end the program that uses ports 53 and 67 of that bridge's addresses",
            )

    @property
    def _option(self) -> str:
        return f"--conf-file={self._directory / 'dnsmasq.conf'}"

    @contextlib.contextmanager
    def _process(self) -> Iterator[int | None]:
        """Yield a descriptor of the process, None when it does not run."""
        try:
            pid = int(self._read("pid"))
            descriptor = os.pidfd_open(pid)
        except (ValueError, OSError):
            yield None
            return
        try:
            # the process id is not reused while the descriptor is open
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            arguments = []
        try:
            yield descriptor if self._option in arguments else None
        finally:
            os.close(descriptor)

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


def _end(process: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, number)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if poll.poll(scaled_s(_END_S) * 1000):
            return
