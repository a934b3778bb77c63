# SPDX-License-Identifier: Apache-2.0
"""Serial ports of VMs for CPVMs: where each is, what admits to it, and what it has written before."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen
from twisted.internet.threads import deferToThread

from systemvm.management.hypervisors import serial_log
from systemvm.management.pki.screens import ScreenAuthority
from systemvm.management.state.instances import Instance
from systemvm.wire.console import ConsoleKind, ConsoleScrollback, ConsoleTarget, TargetTls

#: What a console shows of the time before it was opened; about a thousand lines.
SCROLLBACK_BYTES = 64 * 1024


@frozen
class MachineSerialPorts:
    """The ports of this host's machines; `logs` has a file for each."""

    screens: ScreenAuthority
    logs: Path

    def target(self, vm: Instance) -> ConsoleTarget:
        """Return where the port is, with a certificate that admits a CPVM for this once."""
        client = self.screens.issue_client(vm.uuid)
        return ConsoleTarget(
            host=vm.vnc_address or "",
            port=vm.serial_port or 0,
            password=None,
            transport_tls=TargetTls(
                fingerprint=vm.serial_fingerprint or "",
                certificate_pem=client.certificate_pem.decode(),
                private_key_pem=client.private_key_pem.decode(),
            ),
            kind=ConsoleKind.SERIAL,
        )

    async def scrollback(self, vm: Instance) -> ConsoleScrollback:
        path = self.logs / f"{vm.instance_name}.log"
        text: bytes = await deferToThread(serial_log.read_end, path, SCROLLBACK_BYTES)
        return ConsoleScrollback(text)
