# SPDX-License-Identifier: Apache-2.0
"""Opens the connection of a mover to the pinned address, and checks where it leads."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import Address
from systemvm.ssvm.fetch.proxy_connect import ConnectResponse, connect_request
from systemvm.wire.source_access import SourceProxy
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure


def open_connection(address: Address, port: int, timeout_s: float) -> socket.socket:
    """Return a connected socket in blocking mode; call it in a thread, as it blocks.

    Raises: TransferError when it cannot connect.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # no SO_RCVBUF: it would end the kernel's own growth of the window, which a distant server needs
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(timeout_s)
        connection.connect((str(address), port))
        if ip_address(connection.getpeername()[0]) != address:
            raise TransferError(
                TransferFailure.URL_DENIED,
                f"connection to {address} has a different peer",
                "check the public network of this SSVM",
            )
        connection.settimeout(None)
    except ConnectionRefusedError:
        connection.close()
        raise TransferError(
            TransferFailure.CONNECTION_REFUSED,
            f"connection refused by {address} port {port}",
            "check that the server runs",
        ) from None
    except OSError as error:
        connection.close()
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror
        raise TransferError(
            TransferFailure.CONNECTION_FAILED,
            f"{address} port {port} cannot be reached: {why}",
            "check the server, and the routes of the public network",
        ) from None
    except BaseException:
        connection.close()
        raise
    return connection


def open_tunnel(
    connection: socket.socket, url: SourceUrl, proxy: SourceProxy, timeout_s: float
) -> socket.socket:
    """Have the proxy at the other end connect to the server of `url`; return the same socket.

    Raises: TransferError when the proxy refuses or does not answer; the socket is closed then.
    """
    response = ConnectResponse(url, proxy)
    try:
        connection.settimeout(timeout_s)
        connection.sendall(connect_request(url, proxy))
        while True:
            data = connection.recv(4096)
            if not data:
                raise response.ended()
            if response.feed(data):
                break
        connection.settimeout(None)
    except TimeoutError:
        connection.close()
        raise TransferError(
            TransferFailure.CONNECTION_FAILED,
            f"proxy {proxy.authority} does not answer",
            "check that an HTTP proxy runs there",
        ) from None
    except OSError:
        connection.close()
        raise response.ended() from None
    except BaseException:
        connection.close()
        raise
    return connection
