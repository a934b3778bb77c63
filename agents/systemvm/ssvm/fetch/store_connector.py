# SPDX-License-Identifier: Apache-2.0
"""Opens the connections of one job to its S3 server, whose endpoint is the operator's word.

So the zone's own networks are allowed, as for a store on NFS, but not what no store can be: loopback,
link-local and other reserved networks. Each look-up is checked, and the connection goes to its answer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import Address, AddressPolicy
from systemvm.ssvm.fetch.cancellation import Cancellation, unless_cancelled
from systemvm.ssvm.fetch.connect import open_connection
from systemvm.ssvm.fetch.resolve import MAX_ADDRESSES, Lookup, look_up, resolve_host
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.wire.transfer_failure import TransferFailure

Open = Callable[[Address, int, float], socket.socket]


class StoreConnector:
    """Connects, and connects again with growing delays for as long as the budget of the job lasts.

    `cancellation` is its own: the source of the same job is found again at the same time.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: S3Endpoint,
        limits: TransferLimits,
        budget: RetryBudget,
        cancellation: Cancellation,
        lookup: Lookup = look_up,
        open_: Open = open_connection,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._limits = limits
        self._budget = budget
        self._cancellation = cancellation
        self._lookup = lookup
        self._open = open_

    async def connect(self) -> socket.socket:
        """Return a connection to the first address that answers; blocking mode, before TLS.

        Raises: TransferError when an address is denied, or none answers.
        """
        failed: TransferError | None = None
        for address in await self.addresses():
            try:
                return await self._connect_to(address)
            except TransferError as error:
                failed = failed or error
                self._cancellation.check_not_aborted()
        raise failed or self._without_address()

    async def addresses(self) -> list[Address]:
        """Return the addresses of the endpoint, at least one.

        Raises: TransferError when one is denied, or there is none.
        """
        endpoint = self._endpoint
        found: list[Address] = await self._cancellation.run(
            resolve_host(self._reactor, endpoint.host, endpoint.port, self._limits, self._lookup)
        )
        for address in found:
            why = AddressPolicy().why_denied(address)
            if why is not None:
                raise TransferError(
                    TransferFailure.URL_DENIED,
                    f"endpoint {endpoint.host} of the S3 store has a forbidden address: {why}",
                    "use an S3 server that is not on this VM itself",
                )
        if not found:
            raise self._without_address()
        return found[:MAX_ADDRESSES]

    def _without_address(self) -> TransferError:
        return TransferError(
            TransferFailure.NAME_NOT_FOUND, f"endpoint {self._endpoint.host} of the S3 store has no address"
        )

    async def reconnect(self, error: TransferError) -> socket.socket:
        """Wait, and return another connection after `error`.

        Raises: TransferError, `error` or a later one, when the budget is used up.
        """
        while True:
            delay_s = self._budget.next_delay_s(error)
            if delay_s is None:
                raise error
            await self._cancellation.run(deferLater(self._reactor, delay_s))
            try:
                return await self.connect()
            except TransferError as failed:
                if not failed.code.is_retryable:
                    raise
                error = failed

    def cancel(self) -> None:
        """End what is being waited for."""
        self._cancellation.cancel()

    async def _connect_to(self, address: Address) -> socket.socket:
        connecting: Deferred[socket.socket] = deferToThreadPool(
            self._reactor,
            self._reactor.getThreadPool(),
            self._open,
            address,
            self._endpoint.port,
            self._limits.connect_timeout_s,
        )
        connection: socket.socket = await self._cancellation.run(unless_cancelled(connecting))
        return connection
