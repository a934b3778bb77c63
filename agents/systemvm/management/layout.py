# SPDX-License-Identifier: Apache-2.0
"""Where the daemon's files are; `--root DIR` moves all of them."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen


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
    def run(self) -> Path:
        return self.root / "run/systemvm"

    @property
    def socket(self) -> Path:
        """The operators' UNIX socket."""
        return self.run / "managementd.sock"

    @property
    def logs(self) -> Path:
        """Serial logs of VMs; everything else goes to the journal."""
        return self.state / "log"

    def make(self) -> None:
        """Make the directories that are missing, no wider open than they must be."""
        for directory, mode in (
            (self.etc, 0o755),
            (self.zones, 0o755),
            (self.state, 0o755),
            (self.pki, 0o700),
            (self.images, 0o755),
            (self.primary, 0o755),
            (self.logs, 0o750),
            (self.run, 0o755),
        ):
            directory.mkdir(parents=True, exist_ok=True)
            if directory.stat().st_uid == os.geteuid():
                directory.chmod(mode)
