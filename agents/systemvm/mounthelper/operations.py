# SPDX-License-Identifier: Apache-2.0
"""The allowed operations: an NFS export is mounted at a directory named by a UUID, and unmounted.

A request never has a path of this host. The mounts are hard: a guest waits for its disk instead of getting
errors, and nfs(5) warns that soft mounts corrupt data. No program and no device file of an
export is honoured.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import Any

from systemvm.mounthelper.programs import RequestDeadline, hangs, refused, run
from systemvm.service import nfs_service
from systemvm.service.mountinfo import find_mount
from systemvm.service.unix_calls import RefusedError
from systemvm.wire.mount_failure import MountFailure
from systemvm.wire.mount_options import transport

#: Without vers=4, mount.nfs would go on with version 3, whose locks need a service of this host (rpc.statd).
#: retry=0: it would retry for two more minutes, but the daemon asks again.
OPTIONS = "vers=4,hard,nosuid,nodev,noexec,retry=0"
MAX_PATH_CHARACTERS = 1024
#: Of the directory of a pool: new files get the group of QEMU.
MODE = 0o2750
_NFS_VERSION = 4

Answer = tuple[dict[str, Any], list[int]]
#: Returns whether the NFS service of a server answers a version; raises OSError when it cannot be reached.
Probe = Callable[[str, int], bool]


class MountOperations:
    """The table of operations, for threads; an object is a handler for `unix_calls.serve_one`."""

    def __init__(
        self, mounts: Path, uid: int, gid: int, mountinfo: Path, probe: Probe = nfs_service.answers
    ) -> None:
        """Exports belong to `uid`, the daemon's user, and `gid`, QEMU's group."""
        self._mounts = mounts
        self._owner = f"{uid}:{gid}"
        self._mountinfo = mountinfo
        self._probe = probe
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, Callable[[dict[str, Any], Path, RequestDeadline], None]] = {
            "mount": self._mount,
            "unmount": self._unmount,
        }

    def __call__(self, request: dict[str, Any], descriptors: list[int]) -> Answer:
        operation = self._known.get(str(request.get("do")))
        if operation is None or descriptors:
            raise RefusedError(f"unknown operation: {str(request.get('do'))[:40]!r}")
        name = str(uuid.UUID(str(request["pool"])))
        deadline = RequestDeadline()
        lock = self._locks.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=deadline.left_s):
            raise hangs(f"pool {name}", "an earlier request")
        try:
            operation(request, self._mounts / name, deadline)
        finally:
            lock.release()
        return {}, []

    def _mount(self, request: dict[str, Any], directory: Path, deadline: RequestDeadline) -> None:
        server, source = request["server"], export(request["server"], request["path"])
        mounted = find_mount(self._mountinfo.read_text(), directory)
        if mounted is not None and mounted.source != source:
            raise refused(
                MountFailure.IN_USE,
                f"{source} cannot be mounted: {mounted.source} is mounted at {directory}",
                f"unmount {directory}",
            )
        self._require_server(server)
        try:
            if mounted is not None:
                self._give(directory, source, deadline)
                return
        except RefusedError as error:
            if error.reason != MountFailure.STALE.value:
                raise
            run(["umount", "--", str(directory)], source, deadline)  # it is mounted again if nothing uses it
        # without the export nobody can write there
        directory.mkdir(mode=0o555, parents=True, exist_ok=True)
        options = f"{OPTIONS},{transport(server)}"
        run(["mount", "-t", "nfs", "-o", options, "--", source, str(directory)], source, deadline)
        self._give(directory, source, deadline)

    def _require_server(self, server: str) -> None:
        try:
            if self._probe(server, _NFS_VERSION):
                return
        except OSError as error:
            raise refused(
                MountFailure.UNREACHABLE,
                f"NFS server {server} cannot be reached: {error.strerror or 'it does not answer'}",
                "check the server, its firewall and the network of this host",
            ) from None
        raise refused(
            MountFailure.HANGS,
            f"NFS server {server} hangs: it accepts connections and does not answer",
            "check its NFS service and its disks, and restart it",
        )

    def _give(self, directory: Path, source: str, deadline: RequestDeadline) -> None:
        """Give the root of an export to the daemon and QEMU, unless it is theirs."""
        place = str(directory)
        owner_and_mode = run(["stat", "--format=%u:%g %a", "--", place], source, deadline).strip()
        if owner_and_mode != f"{self._owner} {MODE:o}":
            run(["chown", self._owner, "--", place], source, deadline)
            run(["chmod", f"{MODE:o}", "--", place], source, deadline)

    def _unmount(self, request: dict[str, Any], directory: Path, deadline: RequestDeadline) -> None:
        mounted = find_mount(self._mountinfo.read_text(), directory)
        if mounted is not None:
            # -c: umount(8) itself would wait for a server that hangs
            run(["umount", "-c", "--", str(directory)], mounted.source, deadline)
        if directory.exists():
            directory.rmdir()


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
