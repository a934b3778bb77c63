# SPDX-License-Identifier: Apache-2.0
"""Probes of the network and of a mount, each with a timeout."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import time
from pathlib import Path
from typing import NamedTuple

_ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}  # request and reply types


def ping(address: str, timeout_s: float = 2.0) -> bool:
    """Return whether `address` answers an ICMP echo request."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    request, reply = _ECHO[family]
    try:
        channel = socket.socket(family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        # net.ipv4.ping_group_range can exclude root, which may open a raw socket
        channel = socket.socket(family, socket.SOCK_RAW, protocol)
    payload = os.urandom(16)
    with channel:
        channel.connect((address, 0))
        channel.send(_echo(request, payload))
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            channel.settimeout(left_s)
            try:
                answer = channel.recv(2048)
            except TimeoutError:
                break
            if channel.type == socket.SOCK_RAW and family == socket.AF_INET:
                answer = answer[4 * (answer[0] & 15) :]  # after the IP header
            if len(answer) > 8 and answer[0] == reply and answer[8:] == payload:
                return True
    return False


def _echo(kind: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHH", kind, 0, 0, os.getpid() & 0xFFFF, 1)
    total = sum(struct.unpack(f"!{len(head + payload) // 2}H", head + payload))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:2] + struct.pack("!H", ~total & 0xFFFF) + head[4:] + payload


class DnsAnswer(NamedTuple):
    """A name server's answer: a response code (RFC 1035, 4.1.1) and the number of records."""

    code: int
    records: int

    @property
    def is_final(self) -> bool:
        """Whether a resolver accepts the answer; after any other it queries the next server."""
        return self.code in (_NOERROR, _NXDOMAIN)

    @property
    def failure(self) -> str:
        """Why the answer contains no address; empty when it contains one."""
        if self.code == _NOERROR:
            return "" if self.records else "the name has no IPv4 address"
        return _DNS_FAILURES.get(self.code, f"response code {self.code}")


_NOERROR, _NXDOMAIN = 0, 3
_DNS_FAILURES = {
    1: "FORMERR: the server could not parse the query",
    2: "SERVFAIL: the server could not resolve the name",
    3: "NXDOMAIN: the name does not exist",
    4: "NOTIMP: the server does not support the query",
    5: "REFUSED: the server refuses queries of this VM",
}


def ask_dns(server: str, name: str, timeout_s: float = 3.0, port: int = 53) -> DnsAnswer:
    """Query `server` for the IPv4 address of `name`.

    Raises: OSError when there is no answer within `timeout_s`.
    """
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    query_id = os.urandom(2)
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    query = query_id + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)
    deadline_s = time.monotonic() + timeout_s
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        channel.connect((server, port))
        channel.send(query)
        while (left_s := deadline_s - time.monotonic()) > 0:
            channel.settimeout(left_s)
            try:
                answer = channel.recv(4096)
            except TimeoutError:
                break
            if len(answer) >= 12 and answer[:2] == query_id and answer[2] & 0x80:
                return DnsAnswer(answer[3] & 0x0F, int.from_bytes(answer[6:8], "big"))
    raise TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout_s:g} s")


def connect(host: str, port: int, timeout_s: float = 3.0) -> None:
    """Open and close a TCP connection.

    Raises: OSError when it cannot be opened.
    """
    socket.create_connection((host, port), timeout=timeout_s).close()


def write_file(directory: Path, timeout_s: float = 10.0) -> str:
    """Create and remove a file in `directory`; return the error, or an empty string.

    This runs in a process of its own, which is abandoned when it hangs: a dead NFS server blocks any writer.
    The file's name is unique, because every SSVM of a zone can test the same export at once.
    """
    path = directory / f".systemvm-check-{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, _write_and_remove(path).encode()[:512])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        if not select.select([answers], [], [], timeout_s)[0]:
            os.kill(child, signal.SIGKILL)
            return f"no answer within {timeout_s:g} s"
        result = answers.read().decode()
    os.waitpid(child, 0)
    return "" if result == "ok" else result or "the writing process ended"


def _write_and_remove(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, b"systemvm\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return "ok"
