# SPDX-License-Identifier: Apache-2.0
"""Joins requests of the public listener for uploads with their table and with fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from systemvm.ssvm.serve import fetch_link
from systemvm.ssvm.serve.body_stream import ClientGoneError
from systemvm.ssvm.serve.fetch_link import FetchLink
from systemvm.ssvm.serve.http_site import ServeRequest
from systemvm.ssvm.serve.upload_exchange import UploadExchange
from systemvm.ssvm.serve.upload_table import UploadTable


class UploadHandler:
    """The uploads that clients work on."""

    _log = Logger(namespace="systemvm.ssvm.serve.uploads")

    def __init__(self, reactor: Any, table: UploadTable, fetch_socket: Path) -> None:
        self._reactor = reactor
        self._table = table
        self._fetch_socket = fetch_socket

    def begin(self, request: ServeRequest, path: str, length_bytes: int | None) -> bool:
        """Take a request whose headers have come; return False when its path is not an upload's."""
        upload = self._table.find(path)
        if upload is None:
            return False
        body = request.take_body(self._reactor)
        work = UploadExchange(
            self._reactor,
            self._table,
            self._connect,
            upload,
            request.method.decode("latin-1"),
            request.path_text,
            request.header,
            length_bytes,
            body,
        )
        request.channel.connection.assign_owner(upload.upload_id)

        def start() -> None:
            Deferred.fromCoroutine(self._respond(request, work)).addErrback(request.failed)

        # not in this call: the HTTP channel has not done yet what it does behind the headers
        if length_bytes == 0:
            body.when_complete(start)
        else:
            self._reactor.callLater(0, start)
        return True

    async def _respond(self, request: ServeRequest, work: UploadExchange) -> None:
        try:
            outcome = await work.outcome()
        except ClientGoneError as error:
            self._log.debug("an upload broke off: {why}", why=error.message)
            request.abandon()
            return
        request.respond(outcome.code, outcome.text.encode(), outcome.headers)

    async def _connect(self) -> FetchLink:
        return await fetch_link.connect(self._reactor, self._fetch_socket)
