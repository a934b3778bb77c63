# SPDX-License-Identifier: Apache-2.0
"""Responds to requests for links: the store's helper opens the file, a sender sends it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.serve.body_sender import BodySender
from systemvm.ssvm.serve.http_site import NOT_FOUND, ServeRequest
from systemvm.ssvm.serve.link_table import LinkTable
from systemvm.ssvm.serve.response_plan import FileFacts, plan_response
from systemvm.ssvm.store_messages import OpenedImage
from systemvm.wire.extract import ExtractLink
from systemvm.wire.transfer_failure import TransferFailure

#: Every transfer has at most one worker thread at a time.
MAX_TRANSFERS = 64
#: One link cannot take every place.
MAX_TRANSFERS_OF_LINK = 16
RETRY_AFTER_S = 30

#: Opens the file of a link; raises RpcError. The descriptor is the caller's.
OpenImage = Callable[[ExtractLink], Awaitable[tuple[OpenedImage, int]]]


@define(eq=False)
class _Transfer:
    """A response from before its file is opened until its last byte is sent."""

    link: ExtractLink
    sender: BodySender | None = None
    is_dropped: bool = False


class Downloads:
    """The transfers that run, within their limits."""

    _log = Logger(namespace="systemvm.ssvm.serve.downloads")

    def __init__(self, reactor: Any, pool: ThreadPool, links: LinkTable, open_image: OpenImage) -> None:
        self._reactor = reactor
        self._pool = pool
        self._links = links
        self._open_image = open_image
        self._transfers: set[_Transfer] = set()
        self._ended_bytes: dict[int, int] = {}  # by account
        self.sendfile = False  # whether connections have no TLS

    async def answer(self, request: ServeRequest, path: str) -> None:
        """Respond to a request for a path below the advertised endpoint."""
        link = self._links.find(path)
        if link is None:
            request.respond(404, NOT_FOUND)
            return
        if request.method not in (b"GET", b"HEAD"):
            request.respond(405, b"Only GET and HEAD are allowed.\n", [("Allow", "GET, HEAD")])
            return
        if not self._has_room(link):
            self._busy(request, b"Too many downloads run. Try again later.\n")
            return
        transfer = _Transfer(link)
        self._transfers.add(transfer)
        try:
            opened, file = await self._open_image(link)
        except RpcError as error:
            self._transfers.discard(transfer)
            self._not_opened(request, error)
            return
        except BaseException:
            self._transfers.discard(transfer)
            raise
        self._send(request, transfer, opened, file)

    def drop_template(self, account_id: int, template_id: int) -> None:
        """End the transfers of a template: an open file would keep the server from removing it."""
        self._links.drop_template(account_id, template_id)
        for transfer in list(self._transfers):
            if transfer.link.is_of(account_id, template_id):
                transfer.is_dropped = True
                if transfer.sender is not None:
                    transfer.sender.abort()

    def stop(self) -> None:
        for transfer in list(self._transfers):
            if transfer.sender is not None:
                transfer.sender.abort()

    def __len__(self) -> int:
        return len(self._transfers)

    def served_bytes(self) -> dict[int, int]:
        """Return what was sent by links since the start, by account, also by transfers that still run."""
        counted = dict(self._ended_bytes)
        for transfer in self._transfers:
            self._add(counted, transfer)
        return counted

    @staticmethod
    def _add(counted: dict[int, int], transfer: _Transfer) -> None:
        account_id = transfer.link.owner_id
        if account_id and transfer.sender is not None:
            counted[account_id] = counted.get(account_id, 0) + transfer.sender.sent_bytes

    def _has_room(self, link: ExtractLink) -> bool:
        of_link = sum(transfer.link.secret == link.secret for transfer in self._transfers)
        return len(self._transfers) < MAX_TRANSFERS and of_link < MAX_TRANSFERS_OF_LINK

    def _not_opened(self, request: ServeRequest, error: RpcError) -> None:
        if error.reason == TransferFailure.LOST.value:
            request.respond(404, NOT_FOUND)  # the template is no longer on its store
            return
        self._log.warn("cannot open an image: {error}", error=str(error))
        self._busy(request, b"The file cannot be read now. Try again later.\n")

    @staticmethod
    def _busy(request: ServeRequest, text: bytes) -> None:
        request.respond(503, text, [("Retry-After", str(RETRY_AFTER_S))])

    def _send(self, request: ServeRequest, transfer: _Transfer, opened: OpenedImage, file: int) -> None:
        if request.gone or transfer.is_dropped:
            os.close(file)
            self._transfers.discard(transfer)
            request.respond(404, NOT_FOUND)
            return
        link = transfer.link
        facts = FileFacts(link.file_name, opened.size_bytes, opened.modified_unix_s, opened.entity_tag)
        plan = plan_response(facts, request.header)
        request.begin(plan.code, plan.headers)
        request.write(b"")  # sends the headers
        if request.method == b"HEAD" or not plan.segments:
            os.close(file)
            self._transfers.discard(transfer)
            request.finish()
            return
        transport = request.channel.connection
        transport.assign_owner(link.secret)

        def ended(complete: bool) -> None:
            self._transfers.discard(transfer)
            self._add(self._ended_bytes, transfer)
            if complete:
                request.finish()

        transfer.sender = request.sender = BodySender(
            self._reactor, self._pool, transport, file, plan.segments, ended, sendfile=self.sendfile
        )
        transfer.sender.start(request.channel)
