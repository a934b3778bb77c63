# SPDX-License-Identifier: Apache-2.0
"""What is started as QEMU's user: a machine in the sandbox, and nothing else."""

from __future__ import annotations

import pytest

from systemvm.launcher.arguments import SANDBOX, check
from systemvm.service.unix_calls import RefusedError

MACHINE = [
    *("qemu-system-x86_64", "-uuid", "8a3f1c52-3e0f-4b5e-9c1d-000000000001", "-S", "-sandbox", SANDBOX),
    *("-netdev", "tap,id=net0,fd=3", "-chardev", "socket,id=monitor,fd=4,server=on,wait=off"),
    *("-mon", "chardev=monitor,mode=control", "-append", "root=/dev/vda1 ro"),
]


def test_a_machine_is_passed_on_as_it_is() -> None:
    assert check(MACHINE) == MACHINE


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "list of words"),
        (["/bin/sh", "-c", "id"], "is not QEMU"),
        (["/usr/bin/qemu-system-x86_64", *MACHINE[1:]], "is not QEMU"),
        ([word for word in MACHINE if word not in ("-sandbox", SANDBOX)], "without -sandbox"),
        ([MACHINE[0], "-uuid", "x", "-sandbox", "off"], "-sandbox 'off' is not passed on"),
        ([MACHINE[0], *MACHINE[3:]], "without -uuid"),
        ([*MACHINE, "-sandbox", "on,spawn=allow"], "is not passed on"),
        ([*MACHINE, "-netdev", "tap,id=n,ifname=eth0,script=/tmp/x"], "is not passed on"),
        ([*MACHINE, "-netdev", "user,id=n,guestfwd=tcp:1.2.3.4:1-cmd:id"], "is not passed on"),
        ([*MACHINE, "-chardev", "pty,id=x"], "is not passed on"),
        ([*MACHINE, "-incoming", "exec:id"], "no option"),
        ([*MACHINE, "-daemonize"], "no option"),
        ([*MACHINE, "-runas", "root"], "no option"),
        ([*MACHINE, "-append"], "needs a value"),
        ([*MACHINE, "-append", "a\0b"], "list of words"),
        ([*MACHINE, "-append", 3], "list of words"),
        ([*MACHINE, *("-append", "x") * 300], "list of words"),
    ],
)
def test_anything_else_is_refused(words: list[object], why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        check(words)
