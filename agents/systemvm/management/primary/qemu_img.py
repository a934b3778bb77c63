# SPDX-License-Identifier: Apache-2.0
"""qemu-img with fixed arguments, a deadline and a ceiling on its memory: it parses strangers' files."""

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
    """Something that primary storage could not do; `message` says what, `hint` what to do about it."""

    code = FailureCode.UNAVAILABLE


@frozen
class DiskInfo:
    """What a disk image says about itself."""

    format: str
    virtual_size_bytes: int
    backing_file: str | None
    data_file: str | None


class QemuImg:
    def __init__(self, binary: str = "qemu-img") -> None:
        self._binary = binary

    async def facts(self, path: Path, disk_format: DiskFormat) -> DiskInfo:
        """The format is named, never guessed: a raw disk that begins as a qcow2 could name any host file."""
        said = await self._run("info", "--output=json", "-U", "-f", disk_format, path)
        info = msgspec.json.decode(said)
        specific = info.get("format-specific", {}).get("data", {})
        return DiskInfo(
            format=info["format"],
            virtual_size_bytes=info["virtual-size"],
            backing_file=info.get("full-backing-filename") or info.get("backing-filename"),
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
