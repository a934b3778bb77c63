# SPDX-License-Identifier: Apache-2.0
"""Passes the bootstrap identity from the hypervisor only to the agent.

systemd keeps SMBIOS and fw_cfg credentials in /run/credentials/@system, and a copy for each unit that loads
one, for as long as the machine or the unit runs. So no unit loads the identity: preinit moves it to where
only the agent can read it, and the agent erases it when it has a certificate for a key of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from systemvm.guest import files
from systemvm.guest.paths import GuestPaths

AGENT_USER = "systemvm-agent"

#: Runs a command with a text on standard input; raises BootError when it fails.
Run = Callable[[list[str], str], None]


def deliver(from_arguments: bytes | None, paths: GuestPaths, run: Run) -> None:
    """Write the identity of systemd's credential, or else of the boot arguments, for the agent.

    Raises: OSError or BootError when a file cannot be written or erased.
    """
    credential = paths.system_identity
    identity = credential.read_bytes() if credential.is_file() else from_arguments
    if identity is None:
        return  # the second run in this boot: the agent already has it
    files.write(paths.bootstrap_identity, identity, 0o600)
    give_to_agent(paths.bootstrap_identity, paths)
    _erase(credential, run)


def give_to_agent(path: Path, paths: GuestPaths) -> None:
    """Make the agent's user the owner of `path`; do nothing outside an appliance."""
    if os.geteuid() == 0 and paths.root == Path("/"):
        import pwd

        user = pwd.getpwnam(AGENT_USER)
        os.chown(path, user.pw_uid, user.pw_gid)


def _erase(credential: Path, run: Run) -> None:
    try:
        credential.unlink(missing_ok=True)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # systemd mounts the directory read-only; the file system below it is writable
        run(["mount", "-o", "remount,bind,rw", str(credential.parent)], "")
        credential.unlink(missing_ok=True)
        run(["mount", "-o", "remount,bind,ro", str(credential.parent)], "")
