# SPDX-License-Identifier: Apache-2.0
"""One request for an upload: CloudStack's signed form, or a step of tus; both bring bytes to fetch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from systemvm.ssvm.serve import tus, upload_outcome
from systemvm.ssvm.serve.body_stream import BodyStream
from systemvm.ssvm.serve.cross_origin import preflight_headers, response_headers
from systemvm.ssvm.serve.fetch_link import FetchGoneError, FetchLink
from systemvm.ssvm.serve.form_file import FormError, FormFile
from systemvm.ssvm.serve.upload_outcome import Outcome
from systemvm.ssvm.serve.upload_table import (
    LENGTH_MISSING,
    NOT_VALID_ANYMORE,
    ONLY_POST,
    UploadTable,
    refuse,
)
from systemvm.ssvm.upload_messages import (
    ServedUpload,
    UploadAction,
    UploadAnswer,
    UploadCall,
    UploadEnd,
)

#: Until the file in a form begins, and for a body that is kept until its checksum is verified.
PREFIX_DEADLINE_S, CHECKED_BODY_DEADLINE_S = 30.0, 300.0
#: How long a client waits for its template at the end: publishing is a rename.
PUBLISH_WAIT_S = 600.0
#: What a form adds to its file at most.
FORM_OVERHEAD_BYTES = 128 * 1024
_OVERRIDABLE = ("PATCH", "HEAD", "DELETE")


class UploadExchange:
    """Answers one request; `header_of` returns a header by name, empty when it is missing or repeated."""

    def __init__(
        self,
        reactor: Any,
        table: UploadTable,
        connect: Callable[[], Awaitable[FetchLink]],
        upload: ServedUpload,
        method: str,
        path: str,
        header_of: Callable[[str], str],
        length_bytes: int | None,
        body: BodyStream,
    ) -> None:
        """`length_bytes` is None for a body of unknown length."""
        self._reactor = reactor
        self._table = table
        self._connect = connect
        self._upload = upload
        self._path = path
        self._header_of = header_of
        self._length_bytes = length_bytes
        self._body = body
        self._is_tus = bool(header_of("Tus-Resumable"))
        override = header_of("X-HTTP-Method-Override").upper()
        self._method = override if method == "POST" and override in _OVERRIDABLE else method

    async def outcome(self) -> Outcome:
        """Do what the client wants.

        Raises: ClientGoneError when nobody waits for an answer.
        """
        found = await self._answered()
        headers = [*found.headers, *response_headers(self._header_of("Origin"), self._upload.allowed_origins)]
        if self._is_tus or self._method in ("HEAD", "PATCH", "DELETE"):
            headers.append(("Tus-Resumable", tus.VERSION))
        return Outcome(found.code, found.text, headers)

    async def _answered(self) -> Outcome:
        if self._method == "OPTIONS":
            return self._options()
        is_form = self._method == "POST" and not self._is_tus
        if not is_form and self._method not in ("POST", "HEAD", "PATCH", "DELETE"):
            return Outcome(400, ONLY_POST)
        refused = refuse(self._upload, self._header_of, lacks_length=is_form and not self._length_bytes)
        if refused:
            return Outcome(400, refused)
        if not is_form and self._header_of("Tus-Resumable") != tus.VERSION:
            return Outcome(412, f"only tus {tus.VERSION} is supported", [("Tus-Version", tus.VERSION)])
        if self._upload.end is not None:
            return upload_outcome.of_ended(self._upload.end, self._method)
        steps = {"HEAD": self._status, "PATCH": self._patch, "DELETE": self._terminate, "POST": self._create}
        try:
            return await (self._form() if is_form else steps[self._method]())
        except FetchGoneError:
            return upload_outcome.NOT_NOW

    def _options(self) -> Outcome:
        wanted = self._header_of("Access-Control-Request-Method")
        headers = tus.abilities(self._upload.max_size_bytes)
        if self._header_of("Origin") and wanted:
            private = self._header_of("Access-Control-Request-Private-Network") == "true"
            allowed = self._upload.allowed_origins
            headers += preflight_headers(self._header_of("Origin"), allowed, to_private_network=private)
        return Outcome(204, "", [*headers, ("Tus-Resumable", tus.VERSION)])

    # ---- CloudStack's form ---------------------------------------------------------------------------------

    async def _form(self) -> Outcome:
        if self._table.is_expired(self._upload):
            return Outcome(400, NOT_VALID_ANYMORE)
        length_bytes, limit_bytes = self._length_bytes or 0, self._upload.max_size_bytes
        if length_bytes > limit_bytes + FORM_OVERHEAD_BYTES:
            return Outcome(
                400,
                f"Maximum file upload size exceeded. Content Length received: {length_bytes}B."
                f" Maximum allowed size: {limit_bytes}B.",
            )
        self._body.set_deadline(PREFIX_DEADLINE_S)
        link: FetchLink | None = None
        try:
            form = FormFile(self._header_of("Content-Type"))
            while data := await self._body.read():
                pieces = form.feed(data)
                if form.has_file and link is None:
                    self._body.set_deadline(None)
                    link = await self._connect()
                    call = self._call(UploadAction.RECEIVE, body_bytes=length_bytes, is_whole=True)
                    answer = await link.call(call)
                    if answer.refusal is not None:
                        return upload_outcome.of_refused_form(answer)
                if link is not None and pieces and not await link.send(b"".join(pieces)):
                    break
            else:
                form.finish()
                if link is not None:
                    link.end_body()
            if link is None:
                raise FormError("form has no file")
            return await self._end_of_form(link)
        except FormError as error:
            return Outcome(422 if error.is_without_file else 400, error.message)
        finally:
            self._body.set_deadline(None)
            if link is not None:
                link.close()

    async def _end_of_form(self, link: FetchLink) -> Outcome:
        answer = await link.answer()
        if answer.refusal is not None:
            return upload_outcome.of_refused_form(answer)
        return upload_outcome.of_form(await self._ended())

    # ---- tus -----------------------------------------------------------------------------------------------

    async def _create(self) -> Outcome:
        length_bytes = tus.parse_number(self._header_of("Upload-Length"))
        if self._length_bytes:
            return Outcome(400, "a request that creates an upload has no body; send it by PATCH")
        if length_bytes is None and self._header_of("Upload-Defer-Length") != "1":
            return Outcome(400, "Upload-Length is missing or invalid")
        if length_bytes is not None:
            if length_bytes > self._upload.max_size_bytes:
                return Outcome(413, f"the maximum is {self._upload.max_size_bytes} bytes")
            answer = await self._ask(UploadAction.CREATE, total_bytes=length_bytes)
            if answer.refusal is not None:
                return upload_outcome.of_refused(answer)
        return Outcome(201, "", [("Location", self._path)])

    async def _status(self) -> Outcome:
        answer = await self._ask(UploadAction.STATUS)
        if answer.refusal is not None:
            return upload_outcome.of_refused(answer)
        return upload_outcome.of_status(answer)

    async def _terminate(self) -> Outcome:
        answer = await self._ask(UploadAction.TERMINATE)
        return Outcome(204) if answer.refusal is None else upload_outcome.of_refused(answer)

    async def _patch(self) -> Outcome:
        if self._header_of("Content-Type").lower() != tus.CONTENT_TYPE:
            return Outcome(415, f"the content type must be {tus.CONTENT_TYPE}")
        offset = tus.parse_number(self._header_of("Upload-Offset"))
        if offset is None:
            return Outcome(400, "Upload-Offset is missing or invalid")
        if self._length_bytes is None:
            return Outcome(411, LENGTH_MISSING)
        total_bytes = tus.parse_number(self._header_of("Upload-Length"))
        if self._header_of("Upload-Length") and total_bytes is None:
            return Outcome(400, "Upload-Length is invalid")
        checked: bytes | None = None
        if self._header_of("Upload-Checksum"):
            verified = await self._checked_body()
            if isinstance(verified, Outcome):
                return verified
            checked = verified
        link = await self._connect()
        try:
            call = self._call(
                UploadAction.RECEIVE,
                offset=offset,
                body_bytes=self._length_bytes,
                total_bytes=total_bytes,
            )
            answer = await link.call(call)
            if answer.refusal is None:
                answer = await self._send(link, checked)
        finally:
            link.close()
        if answer.refusal is not None:
            return upload_outcome.of_refused(answer)
        if answer.is_complete:
            end = await self._ended()
            if end.code:
                return upload_outcome.of_ended(end, self._method)
        return Outcome(204, "", [("Upload-Offset", str(answer.offset))])

    async def _send(self, link: FetchLink, checked: bytes | None) -> UploadAnswer:
        if checked is not None:
            await link.send(checked)
            link.end_body()
            return await link.answer()
        while data := await self._body.read():
            if not await link.send(data):
                break
        else:
            link.end_body()
        return await link.answer()

    async def _checked_body(self) -> bytes | Outcome:
        """Return the body once its checksum is verified: nothing of it is received otherwise."""
        checksum = tus.parse_checksum(self._header_of("Upload-Checksum"))
        if checksum is None:
            return Outcome(400, "Upload-Checksum is malformed or of an unknown algorithm")
        if (self._length_bytes or 0) > tus.MAX_CHECKED_BYTES:
            return Outcome(413, f"a body with a checksum has at most {tus.MAX_CHECKED_BYTES} bytes")
        self._body.set_deadline(CHECKED_BODY_DEADLINE_S)
        received = bytearray()
        while data := await self._body.read():
            received += data
        self._body.set_deadline(None)
        if not checksum.holds_for(received):
            return Outcome(460, "Checksum Mismatch")
        return bytes(received)

    # ---- fetch and the end ---------------------------------------------------------------------------------

    def _call(self, action: UploadAction, **more: Any) -> UploadCall:
        return UploadCall(self._upload.job_id, action, **more)

    async def _ask(self, action: UploadAction, **more: Any) -> UploadAnswer:
        link = await self._connect()
        try:
            return await link.call(self._call(action, **more))
        finally:
            link.close()

    async def _ended(self) -> UploadEnd:
        """Wait until the template is published, or has failed."""
        waiter: Deferred[UploadEnd] = Deferred()

        def ended(end: UploadEnd) -> None:
            if not waiter.called:
                waiter.callback(end)

        self._table.when_ended(self._upload.upload_id, ended)
        waiter.addTimeout(PUBLISH_WAIT_S, self._reactor)
        try:
            return await waiter
        except DeferredTimeout:
            return UploadEnd("store_hangs", "the file is received, and is not published yet")
