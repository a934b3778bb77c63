# SPDX-License-Identifier: Apache-2.0
"""Runs qemu-img with fixed arguments, a deadline and a memory limit, because it parses untrusted files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from attrs import frozen

from systemvm.management import child_process
from systemvm.service.errors import FailureCode, SystemVmError

DiskFormat = Literal["qcow2", "raw"]

_ADDRESS_SPACE_BYTES = 1 << 30
_TIMEOUT_S = 60.0


class PrimaryStorageError(SystemVmError):
    """An operation that primary storage did not perform."""

    code = FailureCode.UNAVAILABLE


@frozen
class DiskInfo:
    """The properties of a disk image."""

    format: str
    virtual_size_bytes: int
    backing_file: str | None
    data_file: str | None


class QemuImg:
    def __init__(self, binary: str = "qemu-img") -> None:
        self._binary = binary

    async def info(self, path: Path, disk_format: DiskFormat) -> DiskInfo:
        """Return the properties of an image of a given format.

        The format is never detected: a raw disk that begins like a qcow2 could name any file of the host.
        """
        output = await self._run("info", "--output=json", "-U", "-f", disk_format, path)
        described = msgspec.json.decode(output)
        specific = described.get("format-specific", {}).get("data", {})
        return DiskInfo(
            format=described["format"],
            virtual_size_bytes=described["virtual-size"],
            backing_file=described.get("full-backing-filename") or described.get("backing-filename"),
            data_file=specific.get("data-file"),
        )

    async def create_clone(
        self, path: Path, backing: Path, backing_format: DiskFormat, size_bytes: int | None
    ) -> None:
        size = [str(size_bytes)] if size_bytes is not None else []
        await self._run("create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format, path, *size)

    async def create_empty(self, path: Path, size_bytes: int) -> None:
        await self._run("create", "-q", "-f", "qcow2", path, str(size_bytes))

    async def _run(self, *words: str | Path) -> bytes:
        try:
            return await child_process.run(
                [self._binary, *words], timeout_s=_TIMEOUT_S, address_space_bytes=_ADDRESS_SPACE_BYTES
            )
        except child_process.CommandError as e:
            raise PrimaryStorageError(str(e)) from e
