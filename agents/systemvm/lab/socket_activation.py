# SPDX-License-Identifier: Apache-2.0
"""Runs a program with listening sockets as systemd passes them: descriptors from 3 on, and LISTEN_*.

`python -m systemvm.lab.socket_activation NAME=FD … -- PROGRAM ARGUMENT …` executes the program.
"""

from __future__ import annotations

import os
import sys

FIRST = 3


def main(command: list[str]) -> None:
    split = command.index("--")
    given = [argument.rpartition("=") for argument in command[:split]]
    # first moved to descriptors that do not collide with the final numbers
    parked = [os.dup(int(number)) for _, _, number in given]
    while any(FIRST <= descriptor < FIRST + len(parked) for descriptor in parked):
        parked = [os.dup(descriptor) for descriptor in parked]
    for offset, descriptor in enumerate(parked):
        os.dup2(descriptor, FIRST + offset, inheritable=True)
    environment = {
        **os.environ,
        "LISTEN_FDS": str(len(parked)),
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDNAMES": ":".join(name for name, _, _ in given),
    }
    program = command[split + 1 :]
    os.execvpe(program[0], program, environment)  # noqa: S606 - this is what it is for


if __name__ == "__main__":
    main(sys.argv[1:])
