# SPDX-License-Identifier: Apache-2.0
"""`systemvm-managementd`: the management daemon. It reads its configuration and runs until it is stopped."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from twisted.internet import asyncioreactor

# qemu.qmp and pyroute2 need asyncio's reactor, which must be installed before any other is imported.
asyncioreactor.install()

from twisted.internet import reactor  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.error import CannotListenError  # noqa: E402
from twisted.logger import Logger  # noqa: E402
from twisted.python.failure import Failure  # noqa: E402

from systemvm.host.config_file import ConfigError  # noqa: E402
from systemvm.host.layout import DAEMON_USER, Layout  # noqa: E402
from systemvm.management import config, interpreter_pauses  # noqa: E402
from systemvm.management.config_show import show, summarize  # noqa: E402
from systemvm.management.hypervisors.errors import HypervisorError  # noqa: E402
from systemvm.management.network_helper import NetworkError  # noqa: E402
from systemvm.management.pki.keystore import KeystoreError  # noqa: E402
from systemvm.management.samples import leave_samples  # noqa: E402
from systemvm.service.journal import begin_logging  # noqa: E402
from systemvm.service.monotonic_clock import use_monotonic_clock  # noqa: E402
from systemvm.service.sigint import run_until_sigint  # noqa: E402
from systemvm.service.systemd_notifier import SystemdNotifier, feed_watchdog  # noqa: E402

IDENTIFIER = "systemvm-managementd"

_USERS_HINT = 'run "systemd-sysusers systemvm-host.conf"'

#: Errors that are logged without a traceback.
EXPECTED = (ConfigError, KeystoreError, NetworkError, HypervisorError, CannotListenError, OSError)

log = Logger(namespace="systemvm.management")


def main(arguments: list[str] | None = None) -> int:
    """Return exit code 0 after a requested stop, 1 after a failure, 2 for wrong files or arguments."""
    options = _parse(arguments)
    layout = Layout(options.root.resolve())
    try:
        if options.prepare:
            layout.prepare()
            leave_samples(layout)
            return 0
        config.check_socket_paths(layout)
        configuration = config.read(layout)
    except LookupError as error:
        sys.stderr.write(f"{IDENTIFIER}: user is missing: {error}; {_USERS_HINT}\n")
        return 2
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{IDENTIFIER}: {error}\n")
        if options.check_config:
            sys.stderr.write(
                "the daemon cannot start with these files; a running daemon keeps its configuration\n"
            )
        return 2
    if options.check_config:
        sys.stdout.write(summarize(layout, configuration, IDENTIFIER))
        return 0
    if options.show_config:
        sys.stdout.write(show(layout, configuration))
        return 0
    if os.geteuid() == 0:
        sys.stderr.write(
            f"{IDENTIFIER}: must not run as root; start its unit, or `make run`, which use {DAEMON_USER}\n"
        )
        return 2
    begin_logging(IDENTIFIER, os.environ)
    os.umask(0o027)
    return _run(configuration)


def _run(configuration: config.Configuration) -> int:
    # most of a start's time; --prepare, as which the unit runs it before each start, needs none of it
    from systemvm.management.daemon import Daemon

    notifier = SystemdNotifier.from_environment(os.environ)
    use_monotonic_clock(reactor)
    try:
        daemon = Daemon(reactor, configuration, notifier)
    except EXPECTED as error:
        log.critical("cannot start: {error}", error=str(error))
        return 2 if isinstance(error, ConfigError) else 1
    codes: list[int] = []

    def failed(failure: Failure) -> None:
        codes.append(1)
        if failure.check(*EXPECTED) is not None:
            log.critical("cannot start: {error}", error=str(failure.value))
        else:
            log.failure("cannot start", failure=failure)
        reactor.stop()

    async def begin() -> None:
        await daemon.start()
        interpreter_pauses.shorten()

    def start() -> None:
        feed_watchdog(reactor, notifier, os.environ)
        Deferred.fromCoroutine(begin()).addErrback(failed)

    reactor.callWhenRunning(start)
    # SIGTERM and SIGINT stop the reactor, which waits for this.
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(daemon.stop()))
    run_until_sigint(reactor.run)
    return max(codes, default=0)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=IDENTIFIER,
        description=__doc__,
        epilog="exit codes: 0 success; 1 failure; 2 invalid files or arguments",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="use files below DIR (default: /; `make run` uses build/run)",
    )
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="check the configuration, print its errors, and exit",
    )
    parser.add_argument(
        "--show-config",
        action="store_true",
        help="print every value with the line that sets it, and exit",
    )
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="as root: create the directories and samples of missing files for the daemon's user, and exit",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
