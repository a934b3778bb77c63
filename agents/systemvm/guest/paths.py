# SPDX-License-Identifier: Apache-2.0
"""Where files are in an appliance; all are below one root, which tests replace."""

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
        """Return the file of a systemd credential, None when the unit does not have it."""
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
        """The boot arguments with secrets but without the identity: 0600."""
        return self.cache / "cmdline"

    @property
    def cmd_line_json(self) -> Path:
        """The boot arguments without secrets."""
        return self.cache / "cmd_line.json"

    @property
    def boot_up_done(self) -> Path:
        return self.cache / "boot_up_done"

    # ---- the system's files --------------------------------------------------------------------------
    @property
    def etc(self) -> Path:
        return self.root / "etc"

    # The root file system is read-only: preinit writes to /run, and the image has symbolic links to these
    # files where programs read them (made by packer/provision/90-clean.sh).
    @property
    def this_start(self) -> Path:
        """What preinit wrote in this boot; only root writes here, and most files are world-readable."""
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
        """root's authorized keys; /root/.ssh is a link to the directory."""
        return self.this_start / "root-ssh/authorized_keys"

    @property
    def ssh_host_key(self) -> Path:
        return self.this_start / "ssh_host_ed25519_key"

    @property
    def sshd_listen(self) -> Path:
        return self.this_start / "sshd-listen.conf"

    @property
    def time_servers(self) -> Path:
        """systemd-timesyncd's configuration, which exists only with `ntpserverlist=`."""
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
        """The socket of the root helper that returns a check report (systemvm-check.socket)."""
        return self.run / "check.sock"

    @property
    def console_hosts_socket(self) -> Path:
        """The socket of the root helper that opens the CPVM's firewall (systemvm-console-hosts.socket)."""
        return self.run / "console-hosts.sock"

    @property
    def system_identity(self) -> Path:
        """Where systemd writes the identity from SMBIOS or fw_cfg; only root can read it."""
        return self.root / "run/credentials/@system" / boot_arguments.IDENTITY_CREDENTIAL

    @property
    def bootstrap_identity(self) -> Path:
        """Where preinit writes this boot's identity until the agent has its own."""
        return self.run / "bootstrap-identity.pem"

    @property
    def agent_state(self) -> Path:
        """What survives a restart of the agent, but not of the VM: /run is a tmpfs."""
        return self.root / "run/systemvm-agent"

    @property
    def own_identity(self) -> Path:
        """The agent's own key and certificate; they are never on a disk."""
        return self.agent_state / "identity.pem"

    @property
    def console_state(self) -> Path:
        """The console proxy's sessions, which outlive the agent's process but not the VM."""
        return self.agent_state / "consoles"

    @property
    def recordings(self) -> Path:
        """What was recorded of consoles and is not delivered yet."""
        return self.agent_state / "recordings"

    @property
    def identity_credential(self) -> Path | None:
        """This boot's identity in a patched older image, whose agent unit loads it as a credential."""
        return self.credential(boot_arguments.IDENTITY_CREDENTIAL)
