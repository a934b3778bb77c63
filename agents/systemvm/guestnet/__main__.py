# SPDX-License-Identifier: Apache-2.0
"""`systemvm-guestnet`: serves the daemon's requests on an inherited socket, one after another."""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from functools import partial
from pathlib import Path

from systemvm.guestnet.metadata_process import OPTION
from systemvm.guestnet.operations import ServiceOperations
from systemvm.host.layout import DAEMON_USER, Layout
from systemvm.service.sigint import run_until_sigint
from systemvm.service.unix_calls import RefusedError, inherited_socket, serve_always


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; return 2 when the user does not exist or no socket is inherited."""
    parser = argparse.ArgumentParser(
        prog="systemvm-guestnet", description="Run DHCP, DNS and metadata on guest bridges for the daemon."
    )
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="read DIR/etc/systemvm")
    parser.add_argument("--for-user", default=DAEMON_USER, metavar="NAME", help="serve only this user")
    parser.add_argument(
        OPTION, nargs="+", metavar="DIR VERSION ADDRESS", help="be the metadata server of a bridge (internal)"
    )
    parser.add_argument("--descriptors", nargs="+", type=int, default=[], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.metadata:
        from systemvm.guestnet import metadata_server  # with Twisted, which the helper does not need

        return metadata_server.main(Path(options.metadata[0]), options.descriptors)
    # dnsmasq is in sbin, which a system user's PATH can lack
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    os.umask(0o077)
    try:
        uid = pwd.getpwnam(options.for_user).pw_uid
        listener = inherited_socket()
    except (KeyError, RefusedError) as error:
        sys.stderr.write(f"systemvm-guestnet: {error}\n")
        return 2
    operations = ServiceOperations(Layout(options.root.resolve()))
    run_until_sigint(partial(serve_always, listener, uid, operations))
    return 0


if __name__ == "__main__":
    sys.exit(main())
