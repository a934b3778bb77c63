# SPDX-License-Identifier: Apache-2.0
"""`systemvm-mounthelper`: serves the daemon's requests on an inherited socket.

A few threads serve at the same time, so that a server that hangs delays only requests for its own pools.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import sys
import threading
from pathlib import Path

from systemvm.host.layout import DAEMON_USER, QEMU_USER, Layout
from systemvm.mounthelper.operations import MountOperations
from systemvm.service.sigint import run_until_sigint
from systemvm.service.unix_calls import RefusedError, inherited_socket, serve_always

THREADS = 8


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; return 2 when a user does not exist or no socket is inherited."""
    parser = argparse.ArgumentParser(
        prog="systemvm-mounthelper", description="Mount primary storage for the daemon."
    )
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="mount below DIR")
    parser.add_argument("--for-user", default=DAEMON_USER, metavar="NAME", help="serve only this user")
    parser.add_argument("--group", default=QEMU_USER, metavar="NAME", help="group of the disks")
    options = parser.parse_args(arguments)
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["LC_ALL"] = "C"
    try:
        uid, gid = pwd.getpwnam(options.for_user).pw_uid, grp.getgrnam(options.group).gr_gid
        listener = inherited_socket()
    except (KeyError, RefusedError) as error:
        sys.stderr.write(f"systemvm-mounthelper: {error}\n")
        return 2
    mounts = Layout(options.root.resolve()).mounts
    operations = MountOperations(mounts, uid, gid, Path("/proc/self/mountinfo"))
    threads = [
        threading.Thread(target=serve_always, args=(listener, uid, operations), daemon=True)
        for _ in range(THREADS)
    ]

    def serve() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_until_sigint(serve)
    return 0


if __name__ == "__main__":
    sys.exit(main())
