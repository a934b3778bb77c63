# SPDX-License-Identifier: Apache-2.0
"""The records by which a later daemon finds machines again: one JSON file each, without secrets."""

from __future__ import annotations

from pathlib import Path

import msgspec
from attrs import field, frozen

from systemvm.management.hypervisors import screen_files
from systemvm.management.hypervisors.base import DomainSpec
from systemvm.management.hypervisors.qemu_arguments import tap_names


@frozen
class MachineRecord:
    """The record of one machine, written before QEMU starts and removed after its end."""

    name: str
    uuid: str
    is_system: bool
    taps: list[str] = field(factory=list)
    vnc_address: str | None = None
    vnc_port: int | None = None
    vnc_tls: bool = False
    serial_port: int | None = None  # machines of earlier releases only have a log
    serial_fingerprint: str | None = None
    has_config_drive: bool = False  # machines of earlier releases have none

    @classmethod
    def of(cls, spec: DomainSpec, vnc_port: int | None, *, vnc_tls: bool = False) -> MachineRecord:
        address = spec.vnc.address if spec.vnc else None
        return cls(
            spec.name,
            spec.uuid,
            spec.is_system,
            tap_names(spec),
            address,
            vnc_port,
            vnc_tls,
            has_config_drive=spec.config_drive is not None,
        )


class MachineRecords:
    """The records and the other files of running machines, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> None:
        """Create the directory; on a host it exists, and its group is QEMU's, which reads boot arguments
        there.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, name: str, suffix: str) -> Path:
        return self.directory / f"{name}.{suffix}"

    def screen_directory(self, name: str) -> Path:
        """Return where the certificate of its VNC server is."""
        return self.path(name, "screen")

    def serial_directory(self, name: str) -> Path:
        """Return where the certificate of its serial port is."""
        return self.path(name, "serial")

    def write(self, record: MachineRecord) -> None:
        path = self.path(record.name, "json")
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(record))
        temporary.replace(path)

    def all(self) -> list[MachineRecord]:
        return [
            msgspec.convert(msgspec.json.decode(path.read_bytes()), type=MachineRecord, strict=True)
            for path in sorted(self.directory.glob("*.json"))
        ]

    def forget(self, name: str) -> None:
        """Remove every file of a machine that has ended, except its serial log."""
        for suffix in ("pid", "monitor", "agent", "stderr", "png"):
            self.path(name, suffix).unlink(missing_ok=True)
        self.forget_credentials(name)
        screen_files.remove(self.screen_directory(name))
        screen_files.remove(self.serial_directory(name))
        self.path(name, "json").unlink(missing_ok=True)

    def forget_credentials(self, name: str) -> None:
        for path in self.directory.glob(f"{name}.smbios*"):
            path.unlink(missing_ok=True)

    def stderr_tail(self, name: str) -> str:
        """Return the last lines of QEMU's stderr."""
        try:
            text = self.path(name, "stderr").read_bytes()[-2000:].decode(errors="replace").strip()
        except FileNotFoundError:
            return ""
        return " / ".join(text.splitlines()[-4:])
