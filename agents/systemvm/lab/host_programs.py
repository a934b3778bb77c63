# SPDX-License-Identifier: Apache-2.0
"""The host's programs with users and capabilities as in their units."""

from __future__ import annotations

import enum
import importlib.util
import os
import pwd
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from systemvm.host.layout import DAEMON_USER, GUEST_SERVICES_USER, NETWORK_USER, QEMU_USER, Layout
from systemvm.lab.drop_privileges import setpriv
from systemvm.lab.errors import LabError
from systemvm.service import unix_calls

#: Of the mount helper, which is root's (systemd/host/systemvm-mounthelper.service).
MOUNT_CAPABILITIES = ("sys_admin", "chown", "fowner", "dac_override", "net_bind_service")


class HostProgram(enum.Enum):
    """A program of systemd/host/, and its user."""

    DAEMON = ("systemvm.management", DAEMON_USER)
    NETWORK_HELPER = ("systemvm.nethelper", NETWORK_USER)
    MOUNT_HELPER = ("systemvm.mounthelper", "root")
    LAUNCHER = ("systemvm.launcher", QEMU_USER)
    GUEST_SERVICES = ("systemvm.guestnet", GUEST_SERVICES_USER)

    @property
    def module(self) -> str:
        return self.value[0]

    @property
    def user(self) -> str:
        return self.value[1]

    @property
    def own_mounts(self) -> bool:
        """Whether it runs in a mount namespace of its own."""
        return self is not HostProgram.MOUNT_HELPER

    def argv(self, layout: Layout, see: Sequence[Path] = ()) -> list[str | Path]:
        """Return the command line for root in a network namespace; the program can reach the paths `see`."""
        arguments: list[str | Path] = [] if self is HostProgram.LAUNCHER else ["--root", layout.root]
        program = [sys.executable, "-m", self.module, *arguments]
        if not self.own_mounts:
            return [*setpriv(self.user, list(MOUNT_CAPABILITIES)), *program]
        return [*as_user(self.user, [layout.root, *see], _OPTIONS.get(self, ())), *program]


#: Options of `drop_privileges`: what the units of these programs have.
_OPTIONS = {
    HostProgram.NETWORK_HELPER: ("--capability", "net_admin", "--tun"),
    HostProgram.GUEST_SERVICES: ("--capability", "net_admin", "--capability", "net_bind_service"),
}


def as_user(user: str, see: Sequence[Path], options: Sequence[str] = ()) -> list[str | Path]:
    """Return what comes before a command line, so that it runs as `user`: for root in a mount namespace.

    The program can reach Python, this package and the paths `see`.
    """
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "systemvm.lab.drop_privileges",
        "--user",
        user,
        *options,
    ]
    for path in (*see, *_of_python()):
        command += ["--see", path]
    return [*command, "--"]


def require_users() -> None:
    """Check that the host's users exist.

    Raises: LabError when one is missing.
    """
    missing = []
    for program in HostProgram:
        try:
            pwd.getpwnam(program.user)
        except KeyError:
            missing.append(program.user)
    if missing:
        raise LabError(f"user is missing: {', '.join(missing)}", 'run "make setup" (packer/host-setup.sh)')


def helper_sockets(layout: Layout) -> dict[HostProgram, socket.socket]:
    """Listen on the sockets of the .socket units; only the daemon's user may connect."""
    account = pwd.getpwnam(DAEMON_USER)
    sockets = {}
    for program, path in (
        (HostProgram.NETWORK_HELPER, layout.network_socket),
        (HostProgram.MOUNT_HELPER, layout.mount_socket),
        (HostProgram.LAUNCHER, layout.launcher_socket),
        (HostProgram.GUEST_SERVICES, layout.guest_services_socket),
    ):
        sockets[program] = unix_calls.bind(path)
        os.chown(path, account.pw_uid, account.pw_gid)
    return sockets


def _of_python() -> list[Path]:
    """Return the directories of this Python, its packages and our package."""
    found = importlib.util.find_spec("systemvm")
    ours = [Path(place).parent for place in (found.submodule_search_locations or [])] if found else []
    return [Path(sys.prefix), Path(sys.base_prefix), *ours]
