# SPDX-License-Identifier: Apache-2.0
"""The command lines that the launcher starts as QEMU's user: only QEMU in its sandbox."""

from __future__ import annotations

import pytest

from systemvm.launcher.arguments import SANDBOX, check
from systemvm.service.unix_calls import RefusedError

MACHINE = [
    *("qemu-system-x86_64", "-uuid", "8a3f1c52-3e0f-4b5e-9c1d-000000000001", "-S", "-sandbox", SANDBOX),
    *("-netdev", "tap,id=net0,fd=3", "-chardev", "socket,id=monitor,fd=4,server=on,wait=off"),
    *("-mon", "chardev=monitor,mode=control", "-append", "root=/dev/vda1 ro"),
]


def test_an_allowed_command_line_is_returned_unchanged() -> None:
    assert check(MACHINE) == MACHINE


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "list of at most 400 strings"),
        (["/bin/sh", "-c", "id"], "is not QEMU"),
        (["/usr/bin/qemu-system-x86_64", *MACHINE[1:]], "is not QEMU"),
        ([argument for argument in MACHINE if argument not in ("-sandbox", SANDBOX)], "is missing: -sandbox"),
        ([MACHINE[0], "-uuid", "x", "-sandbox", "off"], "not allowed: -sandbox 'off'"),
        ([MACHINE[0], *MACHINE[3:]], "is missing: -uuid"),
        ([*MACHINE, "-sandbox", "on,spawn=allow"], "is not allowed"),
        ([*MACHINE, "-netdev", "tap,id=n,ifname=eth0,script=/tmp/x"], "is not allowed"),
        ([*MACHINE, "-netdev", "user,id=n,guestfwd=tcp:1.2.3.4:1-cmd:id"], "is not allowed"),
        ([*MACHINE, "-chardev", "pty,id=x"], "is not allowed"),
        ([*MACHINE, "-incoming", "exec:id"], "option is not allowed"),
        ([*MACHINE, "-daemonize"], "option is not allowed"),
        ([*MACHINE, "-runas", "root"], "option is not allowed"),
        ([*MACHINE, "-append"], "has no value"),
        ([*MACHINE, "-append", "a\0b"], "list of at most 400 strings"),
        ([*MACHINE, "-append", 3], "list of at most 400 strings"),
        ([*MACHINE, *("-append", "x") * 300], "list of at most 400 strings"),
    ],
)
def test_anything_else_is_refused(argv: list[object], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        check(argv)
