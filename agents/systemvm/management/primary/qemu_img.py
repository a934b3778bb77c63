# SPDX-License-Identifier: Apache-2.0
"""Runs qemu-img with fixed arguments, a deadline and a memory limit, because it parses untrusted files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from attrs import evolve, frozen

from systemvm.host import confine
from systemvm.management import child_process
from systemvm.management.child_process import ProcessLimits
from systemvm.service.errors import FailureCode, SystemVmError

DiskFormat = Literal["qcow2", "raw"]
#: QEMU's names of the formats that are converted; `vpc` is VHD.
SourceFormat = Literal["qcow2", "raw", "vpc", "vhdx", "vmdk"]

_LIMITS = ProcessLimits(address_space_bytes=1 << 30, open_files=64)
_TIMEOUT_S = 60.0
_GIB = 1 << 30
#: CloudStack's limit of an installation, `install.timeout.pergig` (reference 2.10): 1.2 MB/s.
_CONVERT_S_PER_GIB = 900
#: What a qcow2 has besides its clusters, generously: tables of 1/8192 each, header, and rounding.
_OVERHEAD_RATIO, _OVERHEAD_BYTES = 1024, 16 << 20


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
    extent: str | None = None  # another file that a VMDK keeps its data in


@frozen
class DiskSource:
    """A disk that is converted: a file, or a part of one; its format is given and never detected."""

    path: Path
    format: SourceFormat
    offset_bytes: int = 0
    size_bytes: int | None = None

    @property
    def image_options(self) -> str:
        """The option of `--image-opts`: `driver` is what `-f` is for a whole file."""
        path = str(self.path).replace(",", ",,")
        if self.size_bytes is None:
            place = f"file.driver=file,file.filename={path}"
        else:
            part = f"file.driver=raw,file.offset={self.offset_bytes},file.size={self.size_bytes}"
            place = f"{part},file.file.driver=file,file.file.filename={path}"
        # the size in the footer counts, as in Hyper-V and CloudStack, and not the older geometry
        more = "force_size_calc=current_size," if self.format == "vpc" else ""
        return f"driver={self.format},{more}{place}"


class QemuImg:
    def __init__(self, binary: str = "qemu-img") -> None:
        self._binary = binary

    async def info(self, path: Path, disk_format: DiskFormat) -> DiskInfo:
        """Return the properties of an image of a given format.

        The format is never detected: a raw disk that begins like a qcow2 could name any file of the host.
        """
        return _read_info(await self._run("info", "--output=json", "-U", "-f", disk_format, path))

    async def convert(self, source: DiskSource, target: Path) -> None:
        """Write a disk as a standalone qcow2 into an existing file; QEMU can open the two files and no other.

        Raises: PrimaryStorageError when it cannot be read, or depends on another file.
        """
        options = source.image_options
        within = confine.command([source.path], [target])
        words: tuple[str | Path, ...] = ("info", "--output=json", "-U", "--image-opts", options)
        info = _read_info(await self._run(*words, within=within))
        if dependency := info.backing_file or info.data_file or info.extent:
            raise PrimaryStorageError(
                f"{source.path.name} depends on another file: {dependency}",
                "convert it to an image without such a file, and register that",
            )
        size_bytes = info.virtual_size_bytes
        seconds = _CONVERT_S_PER_GIB * (size_bytes / _GIB + 1)
        limits = evolve(
            _LIMITS,
            file_bytes=size_bytes + size_bytes // _OVERHEAD_RATIO + _OVERHEAD_BYTES,
            cpu_s=round(seconds),
        )
        words = ("convert", "-q", "-U", "--image-opts", "-O", "qcow2", options, target)
        await self._run(*words, timeout_s=seconds, limits=limits, within=within)

    async def create_clone(
        self, path: Path, backing: Path, backing_format: DiskFormat, size_bytes: int | None
    ) -> None:
        size = [str(size_bytes)] if size_bytes is not None else []
        await self._run("create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format, path, *size)

    async def create_empty(self, path: Path, size_bytes: int) -> None:
        await self._run("create", "-q", "-f", "qcow2", path, str(size_bytes))

    async def resize(self, path: Path, size_bytes: int) -> None:
        """Change the virtual size of a qcow2 that no machine uses."""
        await self._run("resize", "-q", "-f", "qcow2", path, str(size_bytes))

    async def _run(
        self,
        *words: str | Path,
        timeout_s: float = _TIMEOUT_S,
        limits: ProcessLimits = _LIMITS,
        within: Sequence[str] = (),
    ) -> bytes:
        try:
            return await child_process.run(
                [self._binary, *words], timeout_s=timeout_s, limits=limits, within=within
            )
        except child_process.CommandError as e:
            raise PrimaryStorageError(str(e)) from e


def _read_info(output: bytes) -> DiskInfo:
    described = msgspec.json.decode(output)
    specific = described.get("format-specific", {}).get("data", {})
    # the extent of a VMDK that is its own file has no type
    others = [each["filename"] for each in specific.get("extents", []) if each.get("format")]
    return DiskInfo(
        format=described["format"],
        virtual_size_bytes=described["virtual-size"],
        backing_file=described.get("full-backing-filename") or described.get("backing-filename"),
        data_file=specific.get("data-file"),
        extent=others[0] if others else None,
    )
