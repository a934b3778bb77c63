# SPDX-License-Identifier: Apache-2.0
"""A QEMU whose boot sector echoes its serial port, which is offered as the driver offers it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from pathlib import Path

from systemvm.management.hypervisors import screen_files
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.screens import ScreenAuthority, serial_client_name
from systemvm.wire.console import TargetTls

#: 16-bit code: write a dot at the start, then echo each byte of COM1.
ECHO = bytes.fromhex("b02e baf803 ee bafd03 ec a801 74fb baf803 ec ee ebf1")


class SerialMachine:
    """A machine; `client` is what the daemon hands to a CPVM."""

    def __init__(self, folder: Path) -> None:
        self._authority = ScreenAuthority(CertificateAuthority.create("screen CA"))
        self._uuid = str(uuid.uuid4())
        self._identity = self._authority.issue_serial(self._uuid, "127.0.0.1")
        credentials = folder / "serial"
        screen_files.write(credentials, self._identity)
        disk = folder / "disk.raw"
        disk.write_bytes(ECHO.ljust(510, b"\0") + b"\x55\xaa" + bytes(2 << 20))
        listener = socket.create_server(("127.0.0.1", 0))
        os.set_inheritable(listener.fileno(), True)
        self.port: int = listener.getsockname()[1]
        self._log = log = folder / "serial.log"
        listening = f"fd={listener.fileno()},server=on,wait=off"
        self._process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,tb-size=64", "-m", "32", "-nodefaults"),
                *("-display", "none", "-drive", f"format=raw,file={disk}"),
                *("-object", f"tls-creds-x509,id=tls,endpoint=server,verify-peer=on,dir={credentials}"),
                *("-object", f"authz-simple,id=client,identity=CN={serial_client_name(self._uuid)}"),
                *("-chardev", f"socket,id=serial0,{listening},tls-creds=tls,tls-authz=client,logfile={log}"),
                *("-serial", "chardev:serial0"),
            ],
            pass_fds=[listener.fileno()],
        )
        listener.close()
        while not log.exists() or not log.read_bytes():  # what is typed before the guest runs is lost
            assert self._process.poll() is None, "QEMU ended"
            time.sleep(0.05)

    def client(self) -> TargetTls:
        client = self._authority.issue_client(self._uuid)
        return TargetTls(
            fingerprint=self._identity.fingerprint,
            certificate_pem=client.certificate_pem.decode(),
            private_key_pem=client.private_key_pem.decode(),
        )

    def written(self) -> bytes:
        """Return everything that the machine has written."""
        return self._log.read_bytes()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=120)
