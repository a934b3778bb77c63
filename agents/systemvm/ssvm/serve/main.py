# SPDX-License-Identifier: Apache-2.0
"""`systemvm-serve`: serves images by temporary links and takes uploads, without access to the store itself.

Socket-activated: /run/systemvm/serve.sock (`control`) and the public socket (`public`) are inherited. Imports
happen in `main`, in an order that matters: inherited sockets are taken before Twisted finds them, and the
reactor is chosen before its import.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from systemvm.ssvm.paths import Paths

CONTROL, PUBLIC = "control", "public"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="systemvm-serve", description="Serve images by temporary links.")
    parser.add_argument(
        "--store-socket", type=Path, default=Paths().store_socket, help="default: %(default)s"
    )
    parser.add_argument(
        "--upload-socket", type=Path, default=Paths().upload_socket, help="default: %(default)s"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    options = _parse(arguments)

    from systemvm.guest.inherited_sockets import take_sockets

    sockets = take_sockets(os.environ, os.getpid())
    if not {CONTROL, PUBLIC} <= sockets.keys():
        sys.stderr.write("systemvm-serve: sockets are missing; start systemvm-serve.socket instead\n")
        return 1

    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    from systemvm.rpc.stream.unix_stream import listen_unix_stream
    from systemvm.service.journal import begin_logging
    from systemvm.service.monotonic_clock import use_monotonic_clock
    from systemvm.service.sigint import run_until_sigint
    from systemvm.service.systemd_notifier import SystemdNotifier, feed_watchdog
    from systemvm.ssvm.serve.service import ServeService

    reactor: Any = installed
    use_monotonic_clock(reactor)
    begin_logging("systemvm-serve", os.environ)
    notifier = SystemdNotifier.from_environment(os.environ)
    paths = Paths(store_socket=options.store_socket, upload_socket=options.upload_socket)
    service = ServeService(reactor, paths, sockets[PUBLIC])

    def begin() -> None:
        listen_unix_stream(
            reactor, sockets[CONTROL], service.methods,
            authorize=service.authorize, on_connected=lambda peer: None,
        )  # fmt: skip
        os.close(sockets[CONTROL])
        service.start()
        feed_watchdog(reactor, notifier, os.environ)
        notifier.ready()

    def end() -> Deferred[None]:
        notifier.stopping()
        return Deferred.fromCoroutine(service.stop())

    reactor.addSystemEventTrigger("before", "shutdown", end)
    reactor.callWhenRunning(begin)
    run_until_sigint(reactor.run)
    # a worker that hangs in a store that does not answer must not keep the process alive
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
