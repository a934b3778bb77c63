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
from systemvm.management.state.status import Provisioning
from systemvm.service.errors import FailureCode, SystemVmError

DiskFormat = Literal["qcow2", "raw"]
#: QEMU's names of the formats that are converted; `vpc` is VHD.
SourceFormat = Literal["qcow2", "raw", "vpc", "vhdx", "vmdk"]

#: CloudStack's SPARSE has complete tables (KVM's PreallocationType), and its FAT has all clusters.
_PREALLOCATION = {
    Provisioning.THIN: "off",
    Provisioning.SPARSE: "metadata",
    Provisioning.FAT: "falloc",
}
_INTO_EMPTY = ("-n", "--target-is-zero")
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
        limits, seconds = _convert_limits(info.virtual_size_bytes)
        words = ("convert", "-q", "-U", "--image-opts", "-O", "qcow2", options, target)
        await self._run(*words, timeout_s=seconds, limits=limits, within=within)

    async def create_clone(
        self, path: Path, backing: Path, backing_format: DiskFormat, size_bytes: int | None
    ) -> None:
        size = [str(size_bytes)] if size_bytes is not None else []
        await self._run("create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format, path, *size)

    async def create_empty(
        self, path: Path, size_bytes: int, provisioning: Provisioning = Provisioning.THIN
    ) -> None:
        options = f"preallocation={_PREALLOCATION[provisioning]}"
        limits, seconds = _convert_limits(size_bytes)  # where fallocate(2) is unknown, it writes zeros
        words = ("create", "-q", "-f", "qcow2", "-o", options, path, str(size_bytes))
        await self._run(*words, timeout_s=seconds, limits=limits)

    async def fill(self, source: DiskSource, target: Path, size_bytes: int) -> None:
        """Write one of our own disks with what it is based on into an empty qcow2 that is not smaller.

        The target keeps how it takes space.
        """
        limits, seconds = _convert_limits(size_bytes)
        words = ("convert", "-q", "-U", *_INTO_EMPTY, "--image-opts", "-O", "qcow2")
        await self._run(*words, source.image_options, target, timeout_s=seconds, limits=limits)

    async def name_backing_file(self, path: Path, name: str) -> None:
        """Write the name of a backing file into a qcow2; that file need not exist here."""
        await self._run("rebase", "-u", "-f", "qcow2", "-b", name, "-F", "qcow2", path)

    async def flatten(
        self, chain: Sequence[Path], target: Path, size_bytes: int, *, into_empty: bool = False
    ) -> None:
        """Write a chain of qcow2 files, the base first, as one qcow2 into an existing file.

        With `into_empty` that is an empty qcow2, which keeps its size and how it takes space.

        QEMU can open these files and no other, whatever backing files they name.
        """
        limits, seconds = _convert_limits(size_bytes)
        source = "json:" + msgspec.json.encode(_chain_options(chain)).decode()
        words = ("convert", "-q", "-U", *(_INTO_EMPTY if into_empty else ()), "-O", "qcow2", source, target)
        within = confine.command(chain, [target])
        await self._run(*words, timeout_s=seconds, limits=limits, within=within)

    async def copy_disk(self, source: Path, target: Path, size_bytes: int) -> None:
        """Write one of our own disks with what it is based on as one qcow2 into an existing file."""
        limits, seconds = _convert_limits(size_bytes)
        words = ("convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2", source, target)
        await self._run(*words, timeout_s=seconds, limits=limits)

    async def bitmaps(self, path: Path) -> list[str]:
        """Return the names of the dirty bitmaps of a qcow2."""
        output = await self._run("info", "--output=json", "-U", "-f", "qcow2", path)
        specific = msgspec.json.decode(output).get("format-specific", {}).get("data", {})
        return [str(bitmap["name"]) for bitmap in specific.get("bitmaps", [])]

    async def add_bitmap(self, path: Path, name: str) -> None:
        await self._run("bitmap", "--add", "--enable", "-f", "qcow2", path, name)

    async def remove_bitmap(self, path: Path, name: str) -> None:
        await self._run("bitmap", "--remove", "-f", "qcow2", path, name)

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


def _convert_limits(size_bytes: int) -> tuple[ProcessLimits, float]:
    """Return the limits of a conversion of a disk of this virtual size, and its deadline in seconds."""
    seconds = _CONVERT_S_PER_GIB * (size_bytes / _GIB + 1)
    file_bytes = size_bytes + size_bytes // _OVERHEAD_RATIO + _OVERHEAD_BYTES
    return evolve(_LIMITS, file_bytes=file_bytes, cpu_s=round(seconds)), seconds


def _chain_options(chain: Sequence[Path]) -> dict[str, object]:
    """Return the block options of the last file of a chain, on those before it."""
    options: dict[str, object] | None = None
    for path in chain:
        options = {
            "driver": "qcow2",
            "file": {"driver": "file", "filename": str(path)},
            "backing": options,
        }
    if options is None:
        raise ValueError("chain is empty")
    return options


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
