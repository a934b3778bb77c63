# SPDX-License-Identifier: Apache-2.0
"""Root's helper that mounts storage pools."""

from __future__ import annotations

from pathlib import Path

from systemvm.management.state.storage_pools import StoragePool


class FakeMounter:
    """Root's mount helper, without root: it makes the directory and says that it is mounted."""

    def __init__(self, directory: Path) -> None:
        self.mounts = directory / "pools"
        self.mountinfo = directory / "mountinfo"
        self.mountinfo.touch()
        self.fails_with: Exception | None = None

    async def mount(self, pool: StoragePool) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        directory = self.mounts / pool.uuid
        make_directory(directory)
        append_line(self.mountinfo, f"36 35 0:50 / {directory} rw - nfs4 {pool.place} rw")

    async def unmount(self, pool: StoragePool) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        remove_line(self.mountinfo, str(self.mounts / pool.uuid))


def make_directory(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)


def append_line(file: Path, line: str) -> None:
    with file.open("a") as writer:
        writer.write(f"{line}\n")


def remove_line(file: Path, text: str) -> None:
    kept = [line for line in file.read_text().splitlines(keepends=True) if text not in line]
    file.write_text("".join(kept))
