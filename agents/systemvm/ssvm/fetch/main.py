# SPDX-License-Identifier: Apache-2.0
"""`systemvm-fetch`: downloads from untrusted URLs; its only keys are those of buckets, while it uses them.

Socket-activated: /run/systemvm/fetch.sock is inherited, and upload.sock (`upload`), which older units do not
have. Imports happen in `main`, in an order that matters: inherited sockets are taken before Twisted finds
them, and the reactor is chosen before its import.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from systemvm.ssvm.paths import Paths

UPLOAD = "upload"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    usual = Paths()
    parser = argparse.ArgumentParser(
        prog="systemvm-fetch", description="Download images, each with a mover process of its own."
    )
    parser.add_argument("--store-socket", type=Path, default=usual.store_socket, help="default: %(default)s")
    parser.add_argument("--limits", default="{}", help="JSON that overrides limits, for tests")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    options = _parse(arguments)

    from systemvm.guest.inherited_sockets import take_sockets

    sockets = take_sockets(os.environ, os.getpid())
    uploads = sockets.pop(UPLOAD, None)
    if not sockets:
        sys.stderr.write("systemvm-fetch: no socket was passed; start systemvm-fetch.socket instead\n")
        return 1

    from twisted.internet import epollreactor

    epollreactor.install()
    import msgspec
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    from systemvm.rpc.stream.unix_path import listen_at
    from systemvm.rpc.stream.unix_stream import listen_unix_stream
    from systemvm.service.journal import begin_logging
    from systemvm.service.monotonic_clock import use_monotonic_clock
    from systemvm.service.sigint import run_until_sigint
    from systemvm.service.systemd_notifier import SystemdNotifier, feed_watchdog
    from systemvm.ssvm.fetch.service import FetchService
    from systemvm.ssvm.fetch.upload_port import UploadPort
    from systemvm.ssvm.limits import TransferLimits

    reactor: Any = installed
    use_monotonic_clock(reactor)
    begin_logging("systemvm-fetch", os.environ)
    notifier = SystemdNotifier.from_environment(os.environ)
    limits = msgspec.json.decode(options.limits, type=TransferLimits)
    service = FetchService(reactor, Paths(store_socket=options.store_socket), limits)
    listener = next(iter(sockets.values()))

    def begin() -> None:
        listen_unix_stream(
            reactor, listener, service.methods,
            authorize=service.authorize, on_connected=service.connected, on_lost=service.lost,
        )  # fmt: skip
        os.close(listener)
        if uploads is not None:  # its owner and mode admit serve only
            listen_at(reactor, uploads, UploadPort(service.serve_upload), 0o600)
            os.close(uploads)
        feed_watchdog(reactor, notifier, os.environ)
        notifier.ready()
        service.warm_up()

    def end() -> Deferred[None]:
        notifier.stopping()
        return Deferred.fromCoroutine(service.close())

    reactor.getThreadPool().adjustPoolsize(maxthreads=2 * limits.max_active_jobs)
    reactor.addSystemEventTrigger("before", "shutdown", end)
    reactor.callWhenRunning(begin)
    run_until_sigint(reactor.run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
