# SPDX-License-Identifier: Apache-2.0
"""`systemvm-launcher`: starts, finds and kills QEMU processes of its own user, only for the daemon.

VMs continue to run when it or the daemon stops: a new one finds them by their UUID.
"""

from __future__ import annotations

import argparse
import os
import pwd
import select
import sys
import uuid
from functools import partial
from typing import Any

from systemvm.launcher.arguments import check
from systemvm.launcher.processes import Processes
from systemvm.service.sigint import run_until_sigint
from systemvm.service.unix_calls import RefusedError, inherited_socket, serve_one

Answer = tuple[dict[str, Any], list[int]]


class Launcher:
    """The table of operations; an object is a handler for `local_calls.serve_one`."""

    def __init__(self) -> None:
        self.processes = Processes()

    def __call__(self, request: dict[str, Any], descriptors: list[int]) -> Answer:
        match request.get("do"):
            case "start" if descriptors:
                # the first is QEMU's standard error
                pid = self.processes.start(check(request["argv"]), descriptors[0], descriptors[1:])
                return {"pid": pid}, [os.pidfd_open(pid)]
            case "find":
                found = self.processes.find(_uuid(request))
                return {"pid": found}, [os.pidfd_open(found)] if found is not None else []
            case "kill":
                self.processes.kill(int(request["pid"]), _uuid(request))
                return {}, []
            case "exit-code":
                return {"code": self.processes.exit_code(int(request["pid"]))}, []
            case "kvm":
                return {"opens": _opens("/dev/kvm")}, []
        raise RefusedError(f"unknown operation: {str(request.get('do'))[:40]!r}")


def _uuid(request: dict[str, Any]) -> str:
    return str(uuid.UUID(request["uuid"]))


def _opens(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; return 2 when it runs as root, the user is missing or no socket is inherited."""
    parser = argparse.ArgumentParser(
        prog="systemvm-launcher", description="Start, find and kill QEMU processes for the daemon."
    )
    parser.add_argument("--for-user", default="systemvm", metavar="NAME", help="serve only this user")
    options = parser.parse_args(arguments)
    try:
        if os.geteuid() == 0:
            raise RefusedError(
                "the launcher must not run as root", "run it as systemvm-qemu, as its unit does"
            )
        uid = pwd.getpwnam(options.for_user).pw_uid
        listener = inherited_socket()
    except (KeyError, RefusedError) as error:
        sys.stderr.write(f"systemvm-launcher: {error}\n")
        return 2
    os.chdir("/")
    os.umask(0o027)
    run_until_sigint(partial(_serve, listener, uid, Launcher()))
    return 0


def _serve(listener: Any, uid: int, launcher: Launcher) -> None:
    """Serve requests one after another, and reap QEMU processes when they end."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    watched: dict[int, int] = {}  # pidfd: pid
    while True:
        for pid in launcher.processes.children - set(watched.values()):
            descriptor = os.pidfd_open(pid)
            watched[descriptor] = pid
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll():
            if descriptor in watched:
                poll.unregister(descriptor)
                os.close(descriptor)
                del watched[descriptor]
                launcher.processes.reap()
                continue
            refusal = serve_one(listener, uid, launcher)
            if refusal is not None:
                sys.stderr.write(f"<4>request refused: {refusal}\n")


if __name__ == "__main__":
    sys.exit(main())
