# SPDX-License-Identifier: Apache-2.0
"""Shared by the resources of the control socket: authorization, and writing a JSON response."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.logger import Logger
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request

from systemvm.rpc.core.errors import FORBIDDEN, INTERNAL, RpcError
from systemvm.rpc.core.message import Response
from systemvm.rpc.core.method import Caller
from systemvm.rpc.stream.peer_credentials import Authorize, credentials

_log = Logger()


class AuthorizedResource(Resource):
    isLeaf = True

    def __init__(self, authorize: Authorize) -> None:
        super().__init__()
        self._authorize = authorize

    def caller(self, request: Request) -> Caller | None:
        """Return the caller; None when it was refused, which is written already."""
        transport: Any = request.channel.transport
        uid, gid, pid = credentials(transport.getHandle())
        caller = self._authorize(uid, gid, pid)
        if caller is None:
            _log.warn("Refused uid {uid} (pid {pid}) at the control socket", uid=uid, pid=pid)
            hint = {"hint": "run this as root or as a member of the group of the socket"}
            error = RpcError(FORBIDDEN, f"uid {uid} is not allowed here", hint)
            write_json(request, Response(None, error=error).to_wire(), http.FORBIDDEN)
        return caller


def write_json(request: Request, value: object, status: int | None = None) -> None:
    """Write `value` as the response; None has no body."""
    if value is None:
        request.setResponseCode(http.NO_CONTENT)
        request.finish()
        return
    try:
        body = msgspec.json.encode(value) + b"\n"
    except (TypeError, msgspec.MsgspecError) as error:
        _log.error("Cannot send a response: {error}", error=str(error))
        unsendable = RpcError(INTERNAL, "response cannot be sent", {"hint": str(error)})
        body = msgspec.json.encode(Response(None, error=unsendable).to_wire()) + b"\n"
    if status is not None:
        request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", str(len(body)).encode("ascii"))
    request.write(body)
    request.finish()
