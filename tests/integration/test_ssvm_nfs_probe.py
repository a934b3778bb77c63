# SPDX-License-Identifier: Apache-2.0
"""The probe of NFS servers that answer, hang, close the connection, or are absent."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from systemvm.service.nfs_service import null_call
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.store.nfs_probe import require_server
from systemvm.wire.transfer_failure import TransferFailure


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection, on the port that is yielded."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            channel, _ = listening.accept()
            with channel:
                serve(channel)

        thread = threading.Thread(target=run)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(120)
        assert not thread.is_alive()


def test_the_null_call_follows_rfc_5531() -> None:
    call = null_call(b"\1\2\3\4", 3)
    (mark,) = struct.unpack("!I", call[:4])
    assert mark == 0x80000000 | (len(call) - 4)
    # xid, CALL, RPC version 2, program NFS, version, procedure NULL, two empty AUTH_NONEs
    assert struct.unpack("!10I", call[4:]) == (0x01020304, 0, 2, 100003, 3, 0, 0, 0, 0, 0)


def test_a_server_that_answers_is_accepted() -> None:
    received = bytearray()

    def serve(channel: socket.socket) -> None:
        received.extend(channel.recv(1024))
        channel.sendall(
            struct.pack("!I", 0x80000018) + bytes(received[4:8]) + struct.pack("!5I", 1, 0, 0, 0, 0)
        )

    with listener(serve) as port:
        require_server("127.0.0.1", "4.2", port=port, timeout_s=5.0)
    assert received[16:24] == struct.pack("!2I", 100003, 4)


def test_a_server_that_closes_the_connection_is_left_to_mount() -> None:
    with listener(lambda channel: None) as port:
        require_server("127.0.0.1", "3", port=port, timeout_s=5.0)


def test_a_server_that_accepts_connections_and_does_not_answer_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        with pytest.raises(TransferError) as refused:
            require_server("127.0.0.1", "4.2", port=port, timeout_s=0.3)
    assert refused.value.code is TransferFailure.STORE_HANGS
    assert refused.value.message == "NFS server 127.0.0.1 hangs: it accepts connections and does not answer"
    assert "restart it" in refused.value.hint


def test_a_server_without_an_nfs_service_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody else gets the port, and nothing listens on it
        with pytest.raises(TransferError, match=r"NFS server 127\.0\.0\.1 refuses the connection"):
            require_server("127.0.0.1", "4.2", port=taken.getsockname()[1], timeout_s=1.0)
