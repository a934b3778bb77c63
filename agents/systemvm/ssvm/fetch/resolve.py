# SPDX-License-Identifier: Apache-2.0
"""Resolves the host of a URL to permitted addresses: by one look-up, whose answers are used from then on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.threads import deferToThreadPool

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import Address, AddressPolicy
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure

MAX_ADDRESSES = 4
Lookup = Callable[[str, int], list[Address]]


def look_up(host: str, port: int) -> list[Address]:
    """Ask the system's resolver; blocks.

    Raises: TransferError when there is no address.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        temporary = error.errno == socket.EAI_AGAIN
        raise TransferError(
            TransferFailure.NAME_SERVER_FAILED if temporary else TransferFailure.NAME_NOT_FOUND,
            f"host name {host} cannot be resolved: {error.strerror}",
            "check the DNS servers of the zone: they do not answer"
            if temporary
            else "check the host name in the URL",
        ) from None
    except UnicodeError:
        raise TransferError(TransferFailure.URL_INVALID, "host of the URL is not a DNS name") from None
    return list(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))


async def resolve(
    reactor: Any, url: SourceUrl, policy: AddressPolicy, limits: TransferLimits, lookup: Lookup = look_up
) -> list[Address]:
    """Return the addresses to try, in the order of the resolver.

    A name with one denied address is rejected as a whole: the next look-up could return only that one.

    Raises: TransferError when an address is denied, or when there is none.
    """
    literal = url.address
    addresses = await resolve_host(reactor, url.host, url.port, limits, lookup)
    for address in addresses:
        why = policy.why_denied(address)
        if why is not None:
            what = "resolves to" if literal is None else "has"
            shown = f"{url.host} is {address} ({why})" if literal is None else why
            raise TransferError(
                TransferFailure.URL_DENIED,
                f"{url.subject} {what} a forbidden address: {shown}",
                "use a server outside of this cloud's own networks",
            )
    return addresses[:MAX_ADDRESSES]


async def resolve_host(
    reactor: Any, host: str, port: int, limits: TransferLimits, lookup: Lookup = look_up
) -> list[Address]:
    """Return all addresses of a host, a literal one as it is; their use is the caller's to check.

    Raises: TransferError when there is none, or no answer in time.
    """
    with suppress(ValueError):
        return [ip_address(host)]
    pending = deferToThreadPool(reactor, reactor.getThreadPool(), lookup, host, port)
    pending.addTimeout(limits.lookup_timeout_s, reactor)
    try:
        return await pending
    except DeferredTimeout:
        raise TransferError(
            TransferFailure.NAME_SERVER_FAILED,
            f"host name {host} cannot be resolved: no answer in {limits.lookup_timeout_s:g} s",
            "check the DNS servers of the zone: they do not answer",
        ) from None
