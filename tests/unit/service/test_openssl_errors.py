# SPDX-License-Identifier: Apache-2.0
"""An error that OpenSSL kept of one connection does not reach others."""

from __future__ import annotations

import _ssl
import ctypes
import errno
import ssl
from collections.abc import Iterator

import pytest

from systemvm.service.openssl_errors import clear_openssl_errors, send_close_notify
from tls_pair import tls_pair

ERR_LIB_SYS = 2


def keep_error() -> None:
    """Leave a system error in the thread's queue, as Python 3.13 does."""
    openssl = ctypes.CDLL(_ssl.__file__)  # the symbols of the OpenSSL that Python itself uses
    openssl.ERR_new()
    openssl.ERR_set_error(ERR_LIB_SYS, errno.EPIPE, None)


@pytest.fixture
def connection() -> Iterator[ssl.SSLSocket]:
    """A connection that has nothing to read."""
    ours, theirs = tls_pair()
    with ours, theirs:
        yield ours
        clear_openssl_errors()


def expect_to_wait(connection: ssl.SSLSocket) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        connection.recv(1)


def test_a_connection_waits_although_another_failed(connection: ssl.SSLSocket) -> None:
    expect_to_wait(connection)
    keep_error()
    with pytest.raises(OSError) as mistaken:
        connection.recv(1)
    assert not isinstance(mistaken.value, ssl.SSLWantReadError), "Python clears the queue itself by now"
    keep_error()
    clear_openssl_errors()
    expect_to_wait(connection)


def test_a_peer_that_has_left_keeps_nothing(connection: ssl.SSLSocket) -> None:
    ended, peer = tls_pair()
    peer.close()
    with ended:
        keep_error()
        send_close_notify(ended)
    expect_to_wait(connection)
