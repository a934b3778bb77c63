# SPDX-License-Identifier: Apache-2.0
"""The bootstrap identity on its way from the hypervisor to the agent, and to nobody else.

systemd keeps SMBIOS and fw_cfg credentials in /run/credentials/@system, and a copy for each unit that asks
for one, for as long as the machine or the unit runs. So no unit asks for the identity: preinit moves it to
where the agent alone reads it, and the agent erases it when it has a certificate for a key of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from systemvm.guest import files
from systemvm.guest.paths import GuestPaths

AGENT_USER = "systemvm-agent"

#: Runs a program with a text as its input; BootError when it fails.
Run = Callable[[list[str], str], None]


def deliver(from_arguments: bytes | None, paths: GuestPaths, run: Run) -> None:
    """Hand over systemd's credential, or else the identity of the boot arguments; OSError, BootError."""
    credential = paths.system_identity
    identity = credential.read_bytes() if credential.is_file() else from_arguments
    if identity is None:
        return  # the second run at this start: the agent has had it
    files.write(paths.bootstrap_identity, identity, 0o600)
    give_to_agent(paths.bootstrap_identity, paths)
    _erase(credential, run)


def give_to_agent(path: Path, paths: GuestPaths) -> None:
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
        # read-only is this mount alone, by systemd, and not the file system beneath it
        run(["mount", "-o", "remount,bind,rw", str(credential.parent)], "")
        credential.unlink(missing_ok=True)
        run(["mount", "-o", "remount,bind,ro", str(credential.parent)], "")
