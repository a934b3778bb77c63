# SPDX-License-Identifier: Apache-2.0
"""Starts and ends the metadata server of one bridge, and keeps the files that it answers from."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from systemvm.guestnet.metadata import DataDirectory, machine_name
from systemvm.guestnet.passwords import PasswordDirectory
from systemvm.guestnet.process import end, process_of
from systemvm.host.guest_services import METADATA_PORT, PASSWORD_PORT, GuestData, encode_data
from systemvm.service.release import RELEASE
from systemvm.service.unix_calls import RefusedError

#: The option by which `systemvm-guestnet` is the server and not the helper.
OPTION = "--metadata"
_END = "--descriptors"
_PORTS = (METADATA_PORT, PASSWORD_PORT)


class MetadataProcess:
    """A process that outlives this program; files of machines are in `data/`."""

    def __init__(self, directory: Path) -> None:
        self._pid = directory / "metadata.pid"
        self._data = directory / "data"

    def serve(self, own: Collection[IPv4Address], guests: Mapping[IPv4Address, str]) -> None:
        """Serve at these addresses of this host, and forget the data of all but these, by their MACs.

        Raises: RefusedError when a port is in use.
        """
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = {machine_name(address, mac) for address, mac in guests.items()}
        for path in self._data.iterdir():
            # the id of a password follows
            if "_".join(path.stem.split("_")[:2]) not in kept:
                path.unlink(missing_ok=True)
        # a server of another release or with other addresses is another one
        arguments = [OPTION, str(self._data), RELEASE, *map(str, sorted(own)), _END]
        with process_of(self._pid, arguments) as process:
            if process is not None:
                return
        self.stop()
        listeners = [_listen(address, port) for address in sorted(own) for port in _PORTS]
        try:
            numbers = [listener.fileno() for listener in listeners]
            command = [
                # its ports are open, and it needs no capability any more
                *("setpriv", "--ambient-caps", "-all", "--"),
                *(sys.executable, sys.argv[0], *arguments, *map(str, numbers)),
            ]
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=numbers, start_new_session=True
            )
        finally:
            for listener in listeners:
                listener.close()
        self._pid.write_text(str(server.pid))

    def stop(self) -> None:
        """End the process, if there is one."""
        with process_of(self._pid, [OPTION, str(self._data)]) as process:
            if process is not None:
                end(process)

    def put(self, address: IPv4Address, mac: str, data: GuestData) -> None:
        """Have the server answer a machine with this data from now on."""
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = DataDirectory(self._data).path(address, mac)
        new = path.with_suffix(".new")
        new.write_bytes(encode_data(msgspec.structs.replace(data, password=None)))
        new.replace(path)
        PasswordDirectory(self._data).put(path.stem, data.password)

    def taken_passwords(self) -> list[str]:
        """Return the ids of passwords that machines have taken."""
        return PasswordDirectory(self._data).taken()


def _listen(address: IPv4Address, port: int) -> socket.socket:
    try:
        return socket.create_server((str(address), port), backlog=128)
    except OSError as error:
        raise RefusedError(
            f"cannot listen at {address} on port {port}: {error.strerror}",
            "end the program that uses it, or have it listen at other addresses",
        ) from error
