# SPDX-License-Identifier: Apache-2.0
"""Where the daemon's files are; `--root DIR` moves all of them."""

from __future__ import annotations

import enum
import grp
import os
import pwd
import stat
from pathlib import Path

from attrs import frozen

#: The daemon's user and group; the group is the operators' too.
DAEMON_USER = "systemvm"
#: QEMU's user and group; the daemon is a member of the group.
QEMU_USER = "systemvm-qemu"
#: The network helper's user.
NETWORK_USER = "systemvm-net"


@frozen
class Layout:
    """The paths of one daemon: configuration, state, sockets."""

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
        """Held by the daemon that these files are of."""
        return self.state / "managementd.lock"

    @property
    def pki(self) -> Path:
        """Keys, 0700: the CAs, the seal of the database's secrets, the zone's ssh key."""
        return self.state / "pki"

    @property
    def images(self) -> Path:
        """System VM images, one directory each, named by hash."""
        return self.state / "images"

    @property
    def primary(self) -> Path:
        """Primary storage: copies of templates, and the disks that are clones of them."""
        return self.state / "primary"

    @property
    def agent_code(self) -> Path:
        """A package `systemvm` below it goes to patched system VMs instead of the daemon's own code."""
        return self.state / "agent"

    @property
    def first_login(self) -> Path:
        """The first start's password and API key, 0600, until somebody has read and deleted it."""
        return self.state / "first-login.json"

    @property
    def diagnostics(self) -> Path:
        """Zips of system VMs' diagnostics, for a day."""
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
        """What belongs to running machines: their monitors, and boot arguments until QEMU has read them."""
        return self.run / "qemu"

    @property
    def network_socket(self) -> Path:
        """`systemvm-nethelper` serves the daemon here."""
        return self.run / "network.sock"

    @property
    def launcher_socket(self) -> Path:
        """`systemvm-launcher` serves the daemon here."""
        return self.run / "launcher.sock"

    @property
    def logs(self) -> Path:
        """Serial logs of VMs; everything else goes to the journal."""
        return self.state / "log"

    def make(self) -> None:
        """Make the directories that are missing, no wider open than they must be."""
        for directory, mode, _ in self._directories():
            directory.mkdir(parents=True, exist_ok=True)
            status = directory.stat()
            # under RestrictSUIDSGID= the daemon may not even say again what `prepare` has set
            if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != mode:
                directory.chmod(mode)

    def prepare(self) -> None:
        """`make`, by root, for the daemon's user: what is its own, and what QEMU's group may enter.

        State of a daemon that ran as another user becomes this one's. LookupError when a user is missing.
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
            # what the daemon makes here gets the directory's group, and so is QEMU's to open
            (self.primary, 0o2750, _Owner.SHARED),
            (self.diagnostics, 0o700, _Owner.DAEMON),
            (self.logs, 0o750, _Owner.DAEMON),
            (self.run, 0o755, _Owner.DAEMON),
            (self.machines, 0o2750, _Owner.SHARED),
        )


class _Owner(enum.Enum):
    ROOT = "root"  # the daemon reads it
    DAEMON = "daemon"
    SHARED = "shared"  # the daemon's, and of QEMU's group
