# SPDX-License-Identifier: Apache-2.0
"""The allowed operations: an NFS export is mounted at a directory named by a UUID, and unmounted.

A request never has a path of this host. The mounts are hard: a guest waits for its disk instead of getting
errors, and nfs(5) warns that soft mounts corrupt data. No program and no device file of an
export is honoured.
"""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import uuid
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import Any

from systemvm.service.mountinfo import find_mount
from systemvm.service.slowness import scaled_s
from systemvm.service.unix_calls import RefusedError

MOUNT_TIMEOUT_S = 120.0
#: retry=0: mount.nfs would retry for two more minutes, but the daemon asks again.
OPTIONS = "hard,proto=tcp,nosuid,nodev,noexec,retry=0"
MAX_PATH_CHARACTERS = 1024
#: Of the directory of a pool: new files get the group of QEMU.
MODE = 0o2750

Answer = tuple[dict[str, Any], list[int]]


class Operations:
    """The table of operations, for threads; an object is a handler for `unix_calls.serve_one`."""

    def __init__(self, mounts: Path, uid: int, gid: int, mountinfo: Path) -> None:
        """Exports belong to `uid`, the daemon's user, and `gid`, QEMU's group."""
        self._mounts = mounts
        self._owner = (uid, gid)
        self._mountinfo = mountinfo
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, Callable[[dict[str, Any], Path], Answer]] = {
            "mount": self._mount,
            "unmount": self._unmount,
        }

    def __call__(self, request: dict[str, Any], descriptors: list[int]) -> Answer:
        operation = self._known.get(str(request.get("do")))
        if operation is None or descriptors:
            raise RefusedError(f"unknown operation: {str(request.get('do'))[:40]!r}")
        name = str(uuid.UUID(request["pool"]))
        with self._locks.setdefault(name, threading.Lock()):
            return operation(request, self._mounts / name)

    def _mount(self, request: dict[str, Any], directory: Path) -> Answer:
        source = export(request["server"], request["path"])
        mounted = find_mount(self._mountinfo.read_text(), directory)
        if mounted is not None and mounted.source != source:
            raise RefusedError(
                f"{source} cannot be mounted: {mounted.source} is mounted at {directory}",
                f"unmount {directory}",
            )
        if mounted is None:
            # without the export nobody can write there
            directory.mkdir(mode=0o555, parents=True, exist_ok=True)
            run(["mount", "-t", "nfs", "-o", OPTIONS, "--", source, str(directory)], source)
        self._give(directory, source)
        return {}, []

    def _give(self, directory: Path, source: str) -> None:
        """Give the root of an export to the daemon and QEMU, unless it is theirs."""
        uid, gid = self._owner
        status = directory.stat()
        if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uid, gid, MODE):
            return
        try:
            os.chown(directory, uid, gid)
            directory.chmod(MODE)
        except OSError as error:
            raise RefusedError(
                f"{source} cannot be given to the daemon: {error.strerror}",
                f"export it with no_root_squash, or give it the owner {uid}, the group {gid} and the mode"
                f" {MODE:o} on the server",
            ) from error

    def _unmount(self, request: dict[str, Any], directory: Path) -> Answer:
        if find_mount(self._mountinfo.read_text(), directory) is not None:
            run(["umount", "--", str(directory)], str(directory))
        if directory.exists():
            directory.rmdir()
        return {}, []


def export(server: object, path: object) -> str:
    """Return the source of a mount. Raises: RefusedError for what mount(8) would interpret differently."""
    try:
        address = ip_address(str(server))
    except ValueError:
        raise RefusedError(f"server is not an IP address: {str(server)[:80]!r}") from None
    text = str(path)
    parts = PurePosixPath(text)
    if not parts.is_absolute() or ".." in parts.parts or not text.isprintable():
        raise RefusedError(f"path must be absolute, without .. and control characters: {text[:80]!r}")
    if len(text) > MAX_PATH_CHARACTERS:
        raise RefusedError(f"path is too long: {len(text)} characters, the maximum is {MAX_PATH_CHARACTERS}")
    return f"[{address}]:{text}" if address.version == 6 else f"{address}:{text}"


def run(command: list[str], what: str) -> None:
    """Run mount(8) or umount(8). Raises: RefusedError when it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=scaled_s(MOUNT_TIMEOUT_S),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RefusedError(
            f"{what}: {command[0]} has no result after {MOUNT_TIMEOUT_S:g} s", "check the NFS server"
        ) from None
    except OSError as error:
        raise RefusedError(f"{what}: cannot run {command[0]}: {error.strerror}") from None
    if done.returncode:
        # what mount(8) writes is for the journal, which systemd keeps
        os.write(2, f"<4>{what}: {done.stderr.strip()[:500]}\n".encode())
        raise RefusedError(
            f"{what}: {command[0]} ended with status {done.returncode}",
            "read the journal of systemvm-mounthelper; check server, export and the package nfs-common",
        )
