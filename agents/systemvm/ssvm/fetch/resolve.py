# SPDX-License-Identifier: Apache-2.0
"""From a URL's host to addresses that may be connected to: one look-up, then only its answers are used."""

from __future__ import annotations

import socket
from collections.abc import Callable
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
    """Ask the system's resolver; blocks. TransferError when it knows no address."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        temporary = error.errno == socket.EAI_AGAIN
        raise TransferError(
            TransferFailure.NAME_NOT_FOUND,
            f"the name {host} cannot be resolved: {error.strerror}",
            "the zone's DNS servers do not answer; check them" if temporary else "check the URL's host name",
        ) from None
    except UnicodeError:
        raise TransferError(TransferFailure.URL_INVALID, "the URL's host is no DNS name") from None
    return list(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))


async def resolve(
    reactor: Any, url: SourceUrl, policy: AddressPolicy, limits: TransferLimits, lookup: Lookup = look_up
) -> list[Address]:
    """The addresses to try, in the resolver's order.

    A name with one address that is denied is refused as a whole: whoever mixes them wants the other one next.
    """
    literal = url.address
    if literal is not None:
        addresses = [literal]
    else:
        asked = deferToThreadPool(reactor, reactor.getThreadPool(), lookup, url.host, url.port)
        asked.addTimeout(limits.lookup_timeout_s, reactor)
        try:
            addresses = await asked
        except DeferredTimeout:
            raise TransferError(
                TransferFailure.NAME_NOT_FOUND,
                f"the name {url.host} was not resolved in {limits.lookup_timeout_s:g} s",
                "the zone's DNS servers do not answer; check them",
            ) from None
    for address in addresses:
        why = policy.why_denied(address)
        if why is not None:
            shown = "" if literal is not None else f" ({url.host} is {address})"
            raise TransferError(
                TransferFailure.URL_DENIED,
                f"{url.subject} leads to {why}{shown}, where no image may come from",
                "put the image on a server outside of this cloud's own networks",
            )
    return addresses[:MAX_ADDRESSES]
