# SPDX-License-Identifier: Apache-2.0
"""Reads an image without mounting it: its root file system by debugfs, and its boot area."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

SECTOR_BYTES = 512
#: Where ext4's superblock has its magic number, from the partition's beginning.
_MAGIC_OFFSET_BYTES = 1080
_MAGIC = b"\x53\xef"


@frozen
class Entry:
    """The comparable properties of a file; `content` is a hash, a link's target or a device's number."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: str


def unpack(image: Path, root: Path) -> str:
    """Replace `root` by the image's root file system with owners and modes; needs root privileges.

    The answer is a hash of all that lies before the root partition: its table, boot loaders.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with _raw(image, root.with_suffix(".raw")) as raw:
        offset = root_offset_bytes(raw)
        # debugfs warns that it cannot set the owners of symbolic links, which does not matter
        subprocess.run(
            ["/usr/sbin/debugfs", "-R", f"rdump / {root}", f"{raw}?offset={offset}"],
            check=True, capture_output=True,
        )  # fmt: skip
        # debugfs skips devices, and programs need this one
        os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        with raw.open("rb") as stream:
            return hashlib.sha256(stream.read(offset)).hexdigest()


def root_offset_bytes(raw: Path) -> int:
    """Return the start of the root partition, the last one with ext4.

    Raises: ValueError when there is none.
    """
    shown = subprocess.run(
        ["/usr/sbin/sfdisk", "--json", raw], capture_output=True, text=True, check=True
    )  # fmt: skip
    with raw.open("rb") as stream:
        for partition in reversed(json.loads(shown.stdout)["partitiontable"]["partitions"]):
            offset = int(partition["start"]) * SECTOR_BYTES
            stream.seek(offset + _MAGIC_OFFSET_BYTES)
            if stream.read(2) == _MAGIC:
                return offset
    raise ValueError(f"{raw} has no partition with ext4")


def entries(root: Path) -> dict[str, Entry]:
    """Return every file below `root` by its path; times are not compared."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            found[str(path.relative_to(root))] = _entry(path)
    return found


def _entry(path: Path) -> Entry:
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode):
        # their owners and modes are lost by unpacking
        return Entry("link", 0, (0, 0), str(path.readlink()))
    content = ""
    if stat.S_ISREG(about.st_mode):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
    elif not stat.S_ISDIR(about.st_mode):
        content = str(about.st_rdev)
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}.get(stat.S_IFMT(about.st_mode), "special")
    return Entry(kind, stat.S_IMODE(about.st_mode), (about.st_uid, about.st_gid), content)


@contextmanager
def _raw(image: Path, raw: Path) -> Iterator[Path]:
    try:
        subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
        yield raw
    finally:
        raw.unlink(missing_ok=True)
