# SPDX-License-Identifier: Apache-2.0
"""Tries forbidden operations inside a unit's sandbox; runs in a guest, with its Python.

usage: sandbox_probe.py WRITABLE… -- HOST:PORT…
Prints JSON: "allowed" or the name of the error for each operation.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
BPF_MAP_CREATE, BPF_SYSCALL = 0, 321  # x86-64
_libc = ctypes.CDLL(None, use_errno=True)


def outcome(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "allowed"


def library_call(*arguments: object) -> Callable[[], None]:
    """Return a call of a C library function that raises OSError when it fails."""

    def call() -> None:
        name, *rest = arguments
        if getattr(_libc, str(name))(*rest) == -1:
            raise OSError(ctypes.get_errno(), "")

    return call


def read(path: str) -> Callable[[], object]:
    def attempt() -> None:
        with Path(path).open("rb") as stream:
            stream.read(1)

    return attempt


def write(directory: str) -> Callable[[], object]:
    def attempt() -> None:
        path = Path(directory) / "sandbox-probe"
        path.touch(0o600)
        path.unlink()

    return attempt


def connect(address: str) -> Callable[[], object]:
    host, port = address.rsplit(":", 1)
    return lambda: socket.create_connection((host, int(port)), timeout=10).close()


def executable_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def visible_processes() -> str:
    """Return how many processes besides this one are visible."""
    seen = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return str(len(set(seen) - {str(os.getpid())}))


def main(arguments: list[str]) -> None:
    at = arguments.index("--")
    attempts: dict[str, Callable[[], object]] = {
        "read /etc/shadow": read("/etc/shadow"),
        "read /var/cache/cloud/cmdline": read("/var/cache/cloud/cmdline"),
        "read host key": read("/run/systemvm-preinit/ssh_host_ed25519_key"),
        "read authorized keys": read("/run/systemvm-preinit/root-ssh/authorized_keys"),
        "read disk": read("/dev/vda"),
        "read memory": read("/dev/mem"),
        "read kernel log": read("/dev/kmsg"),
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
        "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
        "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
        "trace init": library_call("ptrace", PTRACE_SEIZE, 1, 0, 0),
        "trace parent": library_call("ptrace", PTRACE_ATTACH, os.getppid(), 0, 0),
        "new user namespace": library_call("unshare", CLONE_NEWUSER),
        "new mount namespace": library_call("unshare", CLONE_NEWNS),
        "mount": library_call("mount", b"none", b"/var/spool", b"tmpfs", 0, None),
        "bpf": library_call("syscall", BPF_SYSCALL, BPF_MAP_CREATE, 0, 0),
        "become root": library_call("setuid", 0),
        "set clock": library_call("clock_settime", 0, ctypes.byref((ctypes.c_long * 2)(1, 0))),
        "set host name": library_call("sethostname", b"x", 1),
        "kill init": lambda: os.kill(1, 0),
        "writable and executable memory": executable_memory,
        "set-uid file": lambda: Path("/tmp").chmod(0o4777),
        "write kernel setting": lambda: os.close(os.open("/proc/sys/kernel/hostname", os.O_WRONLY)),
    }
    attempts |= {f"write {path}": write(path) for path in arguments[:at]}
    attempts |= {f"connect {address}": connect(address) for address in arguments[at + 1 :]}
    result = {name: outcome(attempt) for name, attempt in attempts.items()}
    result["other processes"] = visible_processes()
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
