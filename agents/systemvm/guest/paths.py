# SPDX-License-Identifier: Apache-2.0
"""Where things are in an appliance; everything hangs below one root, so that tests can give another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from systemvm.wire import boot_arguments


class GuestPaths(NamedTuple):
    """The files of an appliance. `root` is `/` outside tests."""

    root: Path = Path("/")
    credentials: Path | None = None  # systemd's $CREDENTIALS_DIRECTORY

    @classmethod
    def from_environment(cls, root: str, environment: Mapping[str, str]) -> GuestPaths:
        directory = environment.get("CREDENTIALS_DIRECTORY")
        return cls(Path(root), Path(directory) if directory else None)

    def credential(self, name: str) -> Path | None:
        """The file of a systemd credential, if it was given to this unit."""
        if self.credentials is None:
            return None
        path = self.credentials / name
        return path if path.is_file() else None

    # ---- CloudStack's files --------------------------------------------------------------------------
    @property
    def cache(self) -> Path:
        return self.root / "var/cache/cloud"

    @property
    def cmdline(self) -> Path:
        """The boot arguments as they came, secrets included: 0600."""
        return self.cache / "cmdline"

    @property
    def cmd_line_json(self) -> Path:
        """The boot arguments without secrets, for everyone else."""
        return self.cache / "cmd_line.json"

    @property
    def boot_up_done(self) -> Path:
        return self.cache / "boot_up_done"

    # ---- the system's files --------------------------------------------------------------------------
    @property
    def etc(self) -> Path:
        return self.root / "etc"

    # The root file system is read-only: what a start decides is in /run, and the image has a symbolic link
    # to it wherever programs look (packer/provision/90-clean.sh makes them).
    @property
    def this_start(self) -> Path:
        """What preinit decided at this start, root's alone to write; everyone may read most of it."""
        return self.root / "run/systemvm-preinit"

    @property
    def hostname(self) -> Path:
        return self.this_start / "hostname"

    @property
    def hosts(self) -> Path:
        return self.this_start / "hosts"

    @property
    def resolv_conf(self) -> Path:
        return self.this_start / "resolv.conf"

    @property
    def authorized_keys(self) -> Path:
        """Its directory is where /root/.ssh leads."""
        return self.this_start / "root-ssh/authorized_keys"

    @property
    def ssh_host_key(self) -> Path:
        return self.this_start / "ssh_host_ed25519_key"

    @property
    def sshd_listen(self) -> Path:
        return self.this_start / "sshd-listen.conf"

    @property
    def time_servers(self) -> Path:
        """systemd-timesyncd's configuration, where `ntpserverlist=` is given."""
        return self.root / "run/systemd/timesyncd.conf.d/systemvm.conf"

    # ---- ours ----------------------------------------------------------------------------------------
    @property
    def image_json(self) -> Path:
        return self.etc / "systemvm/image.json"

    @property
    def nftables(self) -> Path:
        return self.etc / "systemvm/nftables.conf"

    @property
    def run(self) -> Path:
        return self.root / "run/systemvm"

    @property
    def agent_socket(self) -> Path:
        return self.run / "agent.sock"

    @property
    def check_socket(self) -> Path:
        """A root helper answers here with a check report (systemvm-check.socket)."""
        return self.run / "check.sock"

    @property
    def system_identity(self) -> Path:
        """Where systemd leaves the identity that came by SMBIOS or fw_cfg; root's alone."""
        return self.root / "run/credentials/@system" / boot_arguments.IDENTITY_CREDENTIAL

    @property
    def bootstrap_identity(self) -> Path:
        """Where preinit leaves this start's identity, however it came, until the agent has its own."""
        return self.run / "bootstrap-identity.pem"

    @property
    def own_identity(self) -> Path:
        """The agent's own key and certificate; /run is a tmpfs, so they never reach a disk."""
        return self.root / "run/systemvm-agent/identity.pem"

    @property
    def identity_credential(self) -> Path | None:
        """This start's identity in an image whose agent's unit still asks systemd for it (a patched one)."""
        return self.credential(boot_arguments.IDENTITY_CREDENTIAL)
