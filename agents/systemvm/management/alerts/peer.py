# SPDX-License-Identifier: Apache-2.0
"""A connection to a server that alerts go to, within a bounded time; it blocks, so use a thread."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from threading import Timer
from time import monotonic

from systemvm.management.alerts.errors import DeliveryError
from systemvm.management.name_lookup import NameLookup
from systemvm.service.slowness import scaled_s

#: For each part of a delivery, and for all together: neither a name server that is silent nor a server that
#: sends a byte now and then holds a thread. A slow machine gets more, but less than systemd's TimeoutStopSec,
#: because stopping waits for it.
DEADLINE_S = 20.0
TOTAL_S, MOST_TOTAL_S = 30.0, 45.0
_names = NameLookup()

Address = IPv4Address | IPv6Address
Permits = Callable[[Address], bool]


def is_another_machine(address: Address) -> bool:
    """Return whether an address is neither this host's own, nor one that system VMs are controlled by."""
    address = getattr(address, "ipv4_mapped", None) or address  # of ::ffff:127.0.0.1, which is no loopback
    return not (
        address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    )


def is_no_control_address(address: Address) -> bool:
    """Return whether an address can be that of a mail server, which this host itself can have."""
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or is_another_machine(address)


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts this host's roots, to which operators add their own CA."""
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))


@contextmanager
def connection_to(host: str, port: int, permits: Permits) -> Iterator[socket.socket]:
    """Connect to the first address that answers, of those that are permitted; end in a bounded time.

    Raises: DeliveryError when there is none, and for what fails in the block.
    """
    where = f"{host}:{port}"
    try:
        ends_s = monotonic() + min(scaled_s(TOTAL_S), MOST_TOTAL_S)
        places = _resolve(host, port, permits, ends_s)
        with closing(_connect(places, port, ends_s)) as connection, _cut_at(connection, ends_s):
            yield connection
    except ssl.SSLCertVerificationError as error:
        raise DeliveryError(
            f"certificate of {where} cannot be verified: {error.verify_message}",
            "add its CA to the roots of this host",
        ) from None
    except ssl.SSLError:
        raise DeliveryError(f"TLS with {where} failed", "it must offer TLS 1.2 or 1.3 at this port") from None
    except socket.gaierror:
        raise DeliveryError(
            f"name of {where} cannot be resolved", "correct the setting, or the name servers"
        ) from None
    except OSError as error:
        why = error.strerror or "the connection was lost"
        raise DeliveryError(f"{where} cannot be used: {why}", "check that it runs, and its port") from None


def _resolve(host: str, port: int, permits: Permits, ends_s: float) -> list[str]:
    try:
        found = _names.addresses(host, port, min(scaled_s(DEADLINE_S), ends_s - monotonic()))
    except TimeoutError:
        raise DeliveryError(
            f"name of {host}:{port} cannot be resolved: no name server answers",
            "check the name servers of this host",
        ) from None
    permitted = [address for address in found if permits(ip_address(address))]
    if not permitted:
        raise DeliveryError(
            f"{host} is not permitted: its address {found[0]} is not one of another machine",
            "use a server of another address",
        )
    return permitted


def _connect(addresses: list[str], port: int, ends_s: float) -> socket.socket:
    problem = OSError()
    for address in addresses:
        left_s = min(scaled_s(DEADLINE_S), ends_s - monotonic())
        if left_s <= 0:
            break
        try:
            return socket.create_connection((address, port), timeout=left_s)
        except OSError as error:
            problem = error
    raise problem


@contextmanager
def _cut_at(connection: socket.socket, ends_s: float) -> Iterator[None]:
    # a copy, because TLS takes the descriptor out of the socket that it wraps
    with closing(connection.dup()) as copy:
        timer = Timer(max(0.0, ends_s - monotonic()), _cut, (copy,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
