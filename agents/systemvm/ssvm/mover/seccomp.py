# SPDX-License-Identifier: Apache-2.0
"""Restricts a mover before it reads untrusted bytes: no new sockets or programs, limited memory and files.

It keeps the socket and the directory that it was started with.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct

from systemvm.ssvm.limits import MIB

MAX_DATA_BYTES = 768 * MIB
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_X32_BIT = 0x40000000

#: AUDIT_ARCH of a machine, and the numbers of the system calls that are denied to a mover.
_MACHINES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53,
            "execve": 59,
            "ptrace": 101, "mount": 165, "accept4": 288, "open_by_handle_at": 304, "process_vm_readv": 310,
            "bpf": 321, "execveat": 322, "io_uring_setup": 425, "pidfd_getfd": 438,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "mount": 40, "ptrace": 117, "socket": 198, "socketpair": 199, "bind": 200, "listen": 201,
            "accept": 202, "connect": 203, "execve": 221, "accept4": 242, "open_by_handle_at": 265,
            "process_vm_readv": 270, "bpf": 280, "execveat": 281, "io_uring_setup": 425, "pidfd_getfd": 438,
        },
    ),
}  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def restrict_process(max_file_bytes: int) -> None:
    """Apply resource limits and the seccomp filter to this process.

    Raises: OSError when the kernel rejects them.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    machine = platform.machine()
    if machine in _MACHINES:
        code = filter_program(machine)
        program = _Program(len(code) // 8, code)
        _prctl(libc, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def set_process_name(name: str) -> None:
    """Set the name that `ps -o comm` and `pgrep` show, at most 15 bytes (prctl(2), PR_SET_NAME)."""
    _prctl(ctypes.CDLL(None, use_errno=True), _PR_SET_NAME, ctypes.c_char_p(name.encode()))


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    _prctl(ctypes.CDLL(None, use_errno=True), _PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent_pid:
        os._exit(1)


def filter_program(machine: str) -> bytes:
    """Return the seccomp program: EPERM for the listed calls.

    Calls of another architecture kill the process.
    """
    architecture, numbers = _MACHINES[machine]
    denied = sorted(numbers.values())
    code = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    tests = [(_JUMP_GREATER_EQUAL, _X32_BIT), *((_JUMP_EQUAL, number) for number in denied)]
    for index, (kind, value) in enumerate(tests):
        code.append((kind, len(tests) - index, 0, value))  # to the last instruction
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _prctl(libc: ctypes.CDLL, option: int, *arguments: object) -> None:
    values = [*arguments, *[0] * (4 - len(arguments))]
    passed = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in values]
    if libc.prctl(ctypes.c_int(option), *passed) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
