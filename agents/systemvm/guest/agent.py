# SPDX-License-Identifier: Apache-2.0
"""`systemvm-agent`: the agent of both appliances; the boot arguments decide which role it has.

`main` imports modules in a fixed order: inherited sockets are taken before Twisted's endpoints claim them,
and the reactor is installed before anything imports it.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.logger import Logger


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="systemvm-agent", description="Run the agent of a system VM.")
    parser.add_argument("--root", default="/", help="root of the VM's file system (default: %(default)s)")
    parser.add_argument(
        "--role-module",
        metavar="MODULE",
        help="Python module with install(context), instead of the role's own",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit code of a BootFailure when the agent cannot start."""
    options = _parse(arguments)

    from systemvm.guest import gc_pause

    gc_pause.begin()

    from systemvm.guest.inherited_sockets import take_sockets

    sockets = take_sockets(os.environ, os.getpid())

    from systemvm.service import direct_epoll

    direct_epoll.install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.logger import Logger
    from twisted.python.failure import Failure

    from systemvm.guest.boot_argument_error import BootError
    from systemvm.guest.paths import GuestPaths
    from systemvm.guest.service import AgentService, AgentSettings
    from systemvm.service.journal import begin_logging
    from systemvm.service.monotonic_clock import use_monotonic_clock
    from systemvm.service.sigint import run_until_sigint

    use_monotonic_clock(reactor)
    begin_logging("systemvm-agent", os.environ)
    log = Logger(namespace="systemvm.guest.agent")
    outcome = 0

    def cannot_start(failure: Failure) -> None:
        nonlocal outcome
        if not failure.check(BootError, ValueError, OSError):
            log.failure("Starting failed", failure=failure)
        outcome = _report(log, failure.value)
        reactor.stop()

    paths = GuestPaths.from_environment(options.root, os.environ)
    try:
        service = AgentService(reactor, AgentSettings.read(paths, options.role_module), sockets, os.environ)
    except BootError as error:
        return _report(log, error)

    def begin() -> None:
        gc_pause.end()
        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(service.stop()))
        Deferred.fromCoroutine(service.start()).addErrback(cannot_start)

    reactor.callWhenRunning(begin)
    run_until_sigint(reactor.run)
    return outcome


def _report(log: Logger, error: BaseException | None) -> int:
    """Log why the agent cannot start, with fields, and return the exit code."""
    from systemvm.guest.boot_argument_error import BootError
    from systemvm.wire.boot_failure import BootFailure

    code = error.code if isinstance(error, BootError) else BootFailure.AGENT_CANNOT_START
    message = error.message if isinstance(error, BootError) else str(error) or type(error).__name__
    hint = error.hint if isinstance(error, BootError) else ""
    # the token REASON= is for serial consoles
    log.error("REASON={reason} {why}", reason=code.value, why=message, hint=hint)
    return code.exit_code


if __name__ == "__main__":
    sys.exit(main())
