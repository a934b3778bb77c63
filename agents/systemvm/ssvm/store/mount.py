# SPDX-License-Identifier: Apache-2.0
"""`systemvm-mount`: mounts secondary storage, as root, in forked processes.

It also changes the firewall's sets for downloads (`source_firewall`).
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from systemvm.guest.paths import GuestPaths
from systemvm.service.mountinfo import find_mount
from systemvm.service.slowness import scaled_s
from systemvm.ssvm import store_messages as messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.helper_call import Operation, Reply
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store import mount_error
from systemvm.ssvm.store.allowed_users import AGENT_USER, allow
from systemvm.ssvm.store.helper_server import serve_inherited_socket
from systemvm.ssvm.store.nfs_probe import require_server
from systemvm.ssvm.store.source_firewall import SourceFirewall
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.mount_options import option_name, parse_mount_options, transport
from systemvm.wire.storage import NFS_VERSIONS, Store
from systemvm.wire.transfer_failure import TransferFailure

MOUNT_TIMEOUT_S = 120.0  # a first mount loads kernel modules, which takes long without KVM
DIRECTORIES = ("template", "snapshots", "volumes")

_log = logging.getLogger(__name__)

#: CloudStack mounts soft with timeo=133 and 2,147,483,647 tries, so its soft mounts hang like hard ones. Here
#: a server that is gone causes an error after about two minutes: every write is followed by an fsync that
#: must succeed before a template is published, so no failed write is lost silently. Attributes of directories
#: are not cached, as in CloudStack: several SSVMs and hosts write to the same tree.
OPTIONS = (
    "soft",
    "timeo=150",
    "retrans=3",
    "acdirmin=0",
    "acdirmax=0",
    "nosuid",
    "nodev",
    "noexec",
)


class MountHelper:
    """Mounts a store where CloudStack mounts it, and makes its directories; unmounts it."""

    def __init__(self, mount_root: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
        self._mount_root = mount_root
        self._mountinfo = mountinfo

    def operations(self) -> dict[str, Operation]:
        def store_of(params: messages.MountRequest) -> str:
            return messages.mount_id(params.store)

        def one_at_a_time(params: messages.MountRequest) -> frozenset[str]:
            return frozenset({store_of(params)})  # the second call finds the mount of the first

        agent = allow(AGENT_USER)
        return {
            messages.MOUNT: Operation(
                messages.MountRequest, self.mount, agent, store_of, False, one_at_a_time
            ),
            messages.UNMOUNT: Operation(
                messages.MountRequest, self.unmount, agent, store_of, False, one_at_a_time
            ),
        }

    def mount(self, uid: int, request: messages.MountRequest) -> Reply:
        """Mount a store, unless it is mounted already."""
        store = request.store
        require_store(store)
        mount_id = messages.mount_id(store)
        directory = self._mount_root / mount_id
        require_server(store.server, store.nfs_version)  # also for a mounted store: its directory can hang
        mounted = find_mount(self._mountinfo.read_text(), directory)
        if mounted is None:
            directory.mkdir(parents=True, exist_ok=True)
            run_mount(mount_command(store, directory))
            mounted = find_mount(self._mountinfo.read_text(), directory)
        elif mounted.source != f"{_host(store.server)}:{store.path}":
            raise TransferError(
                TransferFailure.MOUNT_FAILED,
                f"{store.server}:{store.path} cannot be mounted: {mounted.source} is mounted in its place",
            )
        elif _is_read_only(mounted.options) is not store.read_only:
            run_mount(remount_command(store, directory))
            mounted = find_mount(self._mountinfo.read_text(), directory)
        if not store.read_only:
            for name in DIRECTORIES:
                (directory / name).mkdir(mode=0o755, exist_ok=True)
        return Reply(messages.MountResult(mount_id, mounted.options if mounted else ""))

    def unmount(self, uid: int, request: messages.MountRequest) -> Reply:
        """Unmount a store; one in use disappears now, and is released when its last file is closed."""
        directory = self._mount_root / messages.mount_id(request.store)
        if find_mount(self._mountinfo.read_text(), directory) is not None:
            run_mount(["umount", "-l", "--", str(directory)])
        with suppress(OSError):  # it is not empty, or another call has just mounted it again
            directory.rmdir()
        return Reply(Acknowledgement())


def require_store(store: Store) -> None:
    """Check a store before its values are put on a command line.

    Raises: TransferError for values that a command line would interpret differently.
    """
    try:
        ip_address(store.server)
    except ValueError:
        raise TransferError(
            TransferFailure.REQUEST_INVALID,
            f"server of the store is not an IP address: {store.server[:80]!r}",
        ) from None
    parts = store.path.split("/")
    if (
        not store.path.startswith("/")
        or ".." in parts
        or not store.path.isprintable()
        or len(store.path) > 1024
    ):
        raise TransferError(
            TransferFailure.REQUEST_INVALID,
            f"path of the store must be absolute, without .. and control characters: {store.path[:80]!r}",
        )
    try:
        parse_mount_options(store.mount_options)
    except ValueError as error:
        raise TransferError(TransferFailure.REQUEST_INVALID, str(error)) from None
    if store.nfs_version not in NFS_VERSIONS:
        raise TransferError(
            TransferFailure.REQUEST_INVALID,
            f"unknown NFS version: {store.nfs_version[:8]!r}",
            f"use one of {', '.join(NFS_VERSIONS)}",
        )


def mount_command(store: Store, directory: Path) -> list[str]:
    """Return the call of mount(8); the store's own options replace ours of the same name."""
    own = parse_mount_options(store.mount_options)
    names = {option_name(option) for option in own}
    if names & {"soft", "softerr", "hard"}:
        names |= {"soft"}
    usual = [*OPTIONS, transport(store.server)]
    chosen = [option for option in usual if option_name(option) not in names]
    if store.nfs_version == "3" and "lock" not in names:
        # the appliance has no rpc.statd, and nothing here locks a file across machines
        own = [option for option in own if option != "nolock"] + ["nolock"]
    if store.read_only:
        own.append("ro")
    # retry=0: mount.nfs would retry for two more minutes, but the caller of this helper retries
    options = ",".join([*chosen, *own, f"vers={store.nfs_version}", "retry=0"])
    return ["mount", "-t", "nfs", "-o", options, "--", f"{_host(store.server)}:{store.path}", str(directory)]


def remount_command(store: Store, directory: Path) -> list[str]:
    """Return the call that makes a mounted store read-only, or writable again.

    mount.nfs sees no other option: a remount cannot change the version, and it compares the rest.
    """
    return ["mount", "-i", "-o", f"remount,{'ro' if store.read_only else 'rw'}", "--", str(directory)]


def _is_read_only(options: str) -> bool:
    return "ro" in options.split(",")


def run_mount(command: list[str]) -> None:
    """Run mount(8) or umount(8).

    Raises: TransferError when it fails; its output is logged.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=scaled_s(MOUNT_TIMEOUT_S),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TransferError(
            TransferFailure.MOUNT_FAILED,
            f"{command[-2]} cannot be mounted: no result after {MOUNT_TIMEOUT_S:g} s",
            "check the NFS server",
        ) from None
    except OSError as error:
        raise TransferError(TransferFailure.MOUNT_FAILED, f"cannot run mount: {error.strerror}") from None
    if done.returncode:
        _log.warning("mount exited with status %d: %s", done.returncode, done.stderr.strip()[:500])
        raise mount_error.explain(command[-2], done.returncode, done.stderr)


def _host(server: str) -> str:
    return f"[{server}]" if ":" in server else server


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="systemvm-mount", description="Mount secondary storage for the agent."
    )
    parser.add_argument("--mount-root", type=Path, default=Paths().mount_root, help="default: %(default)s")
    options = parser.parse_args(arguments)
    operations = {**MountHelper(options.mount_root).operations(), **SourceFirewall(GuestPaths()).operations()}
    return serve_inherited_socket(operations)


if __name__ == "__main__":
    sys.exit(main())
