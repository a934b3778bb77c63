# SPDX-License-Identifier: Apache-2.0
"""Root's helper that mounts storage pools."""

from __future__ import annotations

import uuid
from pathlib import Path

from systemvm.management.state.storage_pools import StoragePool


class FakeMounter:
    """Root's mount helper, without root: a mount is a link to the directory of the server."""

    def __init__(self, directory: Path) -> None:
        self.mounts = directory / "pools"
        self.server = directory / "server"
        self.mountinfo = directory / "mountinfo"
        self.mountinfo.touch()
        self.fails_with: Exception | None = None

    async def mount(self, pool: StoragePool) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        directory = self.mounts / pool.uuid
        link(self.server / str(uuid.uuid5(uuid.NAMESPACE_URL, pool.place)), directory)
        append_line(self.mountinfo, f"36 35 0:50 / {directory} rw - nfs4 {pool.place} rw")

    async def unmount(self, pool_uuid: str, name: str) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        remove_line(self.mountinfo, str(self.mounts / pool_uuid))
        (self.mounts / pool_uuid).unlink(missing_ok=True)


def link(exported: Path, directory: Path) -> None:
    exported.mkdir(parents=True, exist_ok=True)
    directory.parent.mkdir(exist_ok=True)
    if not directory.is_symlink():
        directory.symlink_to(exported)


def append_line(file: Path, line: str) -> None:
    with file.open("a") as writer:
        writer.write(f"{line}\n")


def remove_line(file: Path, text: str) -> None:
    kept = [line for line in file.read_text().splitlines(keepends=True) if text not in line]
    file.write_text("".join(kept))
