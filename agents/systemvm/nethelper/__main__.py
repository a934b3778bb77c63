# SPDX-License-Identifier: Apache-2.0
"""`systemvm-nethelper`: serves the daemon's requests on an inherited socket, one after another."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from functools import partial
from pathlib import Path

from systemvm.host.layout import DAEMON_USER, Layout
from systemvm.nethelper.operations import Operations
from systemvm.service.sigint import run_until_sigint
from systemvm.service.unix_calls import RefusedError, inherited_socket, serve_always


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; return 2 when the user does not exist or no socket is inherited."""
    parser = argparse.ArgumentParser(
        prog="systemvm-nethelper", description="Make taps, bridges and firewall rules for the daemon."
    )
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="read DIR/etc/systemvm")
    parser.add_argument("--for-user", default=DAEMON_USER, metavar="NAME", help="serve only this user")
    options = parser.parse_args(arguments)
    # nft is in sbin, which a system user's PATH can lack
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        uid = pwd.getpwnam(options.for_user).pw_uid
        listener = inherited_socket()
    except (KeyError, RefusedError) as error:
        sys.stderr.write(f"systemvm-nethelper: {error}\n")
        return 2
    operations = Operations(Layout(options.root.resolve()))
    run_until_sigint(partial(serve_always, listener, uid, operations))
    return 0


if __name__ == "__main__":
    sys.exit(main())
