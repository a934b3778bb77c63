# SPDX-License-Identifier: Apache-2.0
"""Where the daemon's files are; `--root DIR` is the parent of all of them."""

from __future__ import annotations

import enum
import grp
import os
import pwd
import stat
from pathlib import Path

from attrs import frozen

#: The daemon's user and group; operators are members of the group.
DAEMON_USER = "systemvm"
#: QEMU's user and group; the daemon is a member of the group.
QEMU_USER = "systemvm-qemu"
#: The network helper's user.
NETWORK_USER = "systemvm-net"
#: The user of the guest networks' services.
GUEST_SERVICES_USER = "systemvm-guestnet"


@frozen
class Layout:
    """The paths of one daemon: configuration, state and sockets."""

    root: Path = Path("/")

    @property
    def etc(self) -> Path:
        return self.root / "etc/systemvm"

    @property
    def config_file(self) -> Path:
        return self.etc / "managementd.yaml"

    @property
    def zones(self) -> Path:
        return self.etc / "zones"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/systemvm"

    @property
    def database(self) -> Path:
        return self.state / "systemvm.sqlite"

    @property
    def lock(self) -> Path:
        """The lock that the running daemon holds."""
        return self.state / "managementd.lock"

    @property
    def pki(self) -> Path:
        """Keys, 0700: the CAs, the encryption key of the database's secrets, the zone's ssh key."""
        return self.state / "pki"

    @property
    def images(self) -> Path:
        """System VM images, one directory for each, named by hash."""
        return self.state / "images"

    @property
    def primary(self) -> Path:
        """Primary storage: copies of templates, and disks cloned from them."""
        return self.state / "primary"

    @property
    def uefi_variables(self) -> Path:
        """Those of VMs, which QEMU writes as it does disks."""
        return self.primary / "uefi"

    @property
    def mounts(self) -> Path:
        """Mount points of storage pools, which belong to root: so does their parent."""
        return self.root / "var/lib/systemvm-pools"

    @property
    def agent_code(self) -> Path:
        """A package `systemvm` in this directory is used to patch system VMs instead of the daemon's code."""
        return self.state / "agent"

    @property
    def first_login(self) -> Path:
        """The first start's password and API key, 0600, until an operator deletes it."""
        return self.state / "first-login.json"

    @property
    def diagnostics(self) -> Path:
        """Zips of system VMs' diagnostics, kept for a day."""
        return self.state / "diagnostics"

    @property
    def run(self) -> Path:
        return self.root / "run/systemvm"

    @property
    def socket(self) -> Path:
        """The operators' UNIX socket."""
        return self.run / "managementd.sock"

    @property
    def machines(self) -> Path:
        """Files of running VMs: QMP sockets, and boot arguments until QEMU has read them."""
        return self.run / "qemu"

    @property
    def network_socket(self) -> Path:
        """The socket of `systemvm-nethelper`."""
        return self.run / "network.sock"

    @property
    def ovsdb_socket(self) -> Path:
        """The socket of Open vSwitch's `ovsdb-server`."""
        return self.root / "run/openvswitch/db.sock"

    @property
    def mount_socket(self) -> Path:
        """The socket of `systemvm-mounthelper`."""
        return self.run / "mount.sock"

    @property
    def launcher_socket(self) -> Path:
        """The socket of `systemvm-launcher`."""
        return self.run / "launcher.sock"

    @property
    def guest_services_socket(self) -> Path:
        """The socket of `systemvm-guestnet`."""
        return self.run / "guestnet.sock"

    @property
    def guest_services(self) -> Path:
        """What `systemvm-guestnet` serves: one directory for each bridge, until the host restarts."""
        return self.root / "run/systemvm-guestnet"

    @property
    def logs(self) -> Path:
        """Serial logs of VMs; everything else goes to the journal."""
        return self.state / "log"

    def make(self) -> None:
        """Make missing directories, and set their modes."""
        for directory, mode, _ in self._directories():
            directory.mkdir(parents=True, exist_ok=True)
            status = directory.stat()
            # under RestrictSUIDSGID= the daemon cannot set again the mode that `prepare` has set
            if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != mode:
                directory.chmod(mode)

    def prepare(self) -> None:
        """Make the directories as root, with the owners and groups of their programs.

        State of a daemon that ran as another user gets this one's owner.

        Raises: LookupError when a user is missing.
        """
        daemon, qemu = pwd.getpwnam(DAEMON_USER), grp.getgrnam(QEMU_USER)
        for directory in (self.state, self.run):
            directory.mkdir(parents=True, exist_ok=True)
            if directory.stat().st_uid != daemon.pw_uid:
                for found in (directory, *directory.rglob("*")):
                    os.chown(found, daemon.pw_uid, daemon.pw_gid, follow_symlinks=False)
        for directory, mode, owner in self._directories():
            directory.mkdir(parents=True, exist_ok=True)
            match owner:
                case _Owner.ROOT:
                    os.chown(directory, 0, 0)
                case _Owner.DAEMON:
                    os.chown(directory, daemon.pw_uid, daemon.pw_gid)
                case _Owner.SHARED:
                    os.chown(directory, daemon.pw_uid, qemu.gr_gid)
            directory.chmod(mode)
        services = pwd.getpwnam(GUEST_SERVICES_USER)
        self.guest_services.mkdir(parents=True, exist_ok=True)
        os.chown(self.guest_services, services.pw_uid, services.pw_gid)
        self.guest_services.chmod(0o700)
        volumes = self.primary / "volumes"
        if volumes.exists() and volumes.stat().st_gid != qemu.gr_gid:
            for found in (*self.primary.iterdir(), *volumes.iterdir()):
                os.chown(found, daemon.pw_uid, qemu.gr_gid, follow_symlinks=False)
                found.chmod(0o2750 if found.is_dir() else 0o660)

    def _directories(self) -> tuple[tuple[Path, int, _Owner], ...]:
        return (
            (self.etc, 0o755, _Owner.ROOT),
            (self.zones, 0o755, _Owner.ROOT),
            (self.state, 0o755, _Owner.DAEMON),
            (self.pki, 0o700, _Owner.DAEMON),
            (self.images, 0o755, _Owner.DAEMON),
            # files of the daemon in it get the directory's group, so that QEMU can open them
            (self.primary, 0o2750, _Owner.SHARED),
            (self.mounts, 0o755, _Owner.ROOT),
            (self.diagnostics, 0o700, _Owner.DAEMON),
            (self.logs, 0o750, _Owner.DAEMON),
            (self.run, 0o755, _Owner.DAEMON),
            (self.machines, 0o2750, _Owner.SHARED),
        )


class _Owner(enum.Enum):
    ROOT = "root"  # readable for the daemon
    DAEMON = "daemon"
    SHARED = "shared"  # owner is the daemon, group is QEMU's
