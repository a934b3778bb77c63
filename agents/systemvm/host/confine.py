# SPDX-License-Identifier: Apache-2.0
"""Runs a program that can open only the files that are named for it: Landlock (landlock(7) of Linux 5.13).

It is a program of its own, because a process with threads must not do this in a fork, and imports nothing of
the project: `python -I -S confine.py --read FILE --write FILE -- PROGRAM ARGUMENT...`. Where the kernel has
no Landlock, the program runs without it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

#: What programs and their libraries are read from.
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom")
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION, _PATH_BENEATH, _NO_NEW_PRIVS = 1, 1, 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_DIRECTORIES = _READ_DIR
_ALL_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_BIND_AND_CONNECT, _NETWORK_VERSION = 3, 4


def command(read: Iterable[Path], write: Iterable[Path]) -> list[str]:
    """Return the words in front of a command that confine it to these files; they must exist."""
    words = [sys.executable, "-I", "-S", str(Path(__file__))]
    for option, paths in (("--read", read), ("--write", write)):
        for path in paths:
            words += [option, str(path)]
    return [*words, "--"]


def confine(read: Sequence[str], write: Sequence[str]) -> bool:
    """Restrict this process; return False when the kernel cannot.

    Raises: OSError when a file cannot be opened.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version < 1:
        return False
    rights = _ALL_FILE_RIGHTS[min(version, max(_ALL_FILE_RIGHTS))]
    attribute = struct.pack("=QQ", rights, _BIND_AND_CONNECT if version >= _NETWORK_VERSION else 0)
    length = len(attribute) if version >= _NETWORK_VERSION else 8
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attribute, ctypes.c_size_t(length), ctypes.c_uint32(0)))
    for path in filter(os.path.exists, SYSTEM):
        _allow(libc, ruleset, path, rights & (_EXECUTE | _READ_FILE | _READ_DIR))
    for path in read:
        _allow(libc, ruleset, path, _READ_FILE)
    for path in (*write, os.devnull):
        _allow(libc, ruleset, path, rights & (_READ_FILE | _WRITE_FILE | _TRUNCATE))
    _checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    os.close(ruleset)
    return True


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= ~_DIRECTORIES
        rule = struct.pack("=Qi", rights, descriptor)
        _checked(libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), _PATH_BENEATH, rule, ctypes.c_uint32(0)))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def main(arguments: list[str]) -> int:
    allowed: dict[str, list[str]] = {"--read": [], "--write": []}
    while arguments and arguments[0] in allowed:
        allowed[arguments[0]].append(arguments[1])
        arguments = arguments[2:]
    program = arguments[1:]
    try:
        confine(allowed["--read"], allowed["--write"])
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        reason = error.strerror or type(error).__name__
        sys.stderr.write(f"{program[0]} cannot be started: {error.filename or 'Landlock'}: {reason}\n")
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
