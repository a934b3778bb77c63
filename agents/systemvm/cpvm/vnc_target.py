# SPDX-License-Identifier: Apache-2.0
"""Connects to a VM's screen: the socket, TLS and HTTP of its hypervisor, then RFB, under one deadline."""

from __future__ import annotations

import os
import ssl
from typing import Any

from attrs import field, frozen

from systemvm.cpvm import target_http
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.rfb import PasswordRefusedError, PasswordUnusedError, ServerInit, TlsUnusedError
from systemvm.cpvm.server_handshake import ServerHandshake
from systemvm.cpvm.target_http import HeadReader, HypervisorResponse
from systemvm.cpvm.target_link import TargetLink
from systemvm.cpvm.target_stream import TargetStream
from systemvm.cpvm.target_tls import handshake_refusal
from systemvm.cpvm.target_websocket import WebSocketStream
from systemvm.cpvm.websocket import WebSocketError
from systemvm.service.rfb_handshake import RfbError
from systemvm.service.scaled_timer import ScaledTimer
from systemvm.wire.console import ConsoleTarget, TargetTransport

CONNECT_DEADLINE_S = 10.0


@frozen
class VncConnection:
    """A VNC server after its handshake; `early` is what it sent after its ServerInit."""

    stream: TargetStream
    server_init: ServerInit
    early: bytes = field(repr=False)


class VncDialer:
    """One attempt to connect; afterwards the stream belongs to the caller and is in no reactor."""

    def __init__(self, reactor: Any, target: ConsoleTarget, deadline_s: float = CONNECT_DEADLINE_S) -> None:
        self._reactor = reactor
        self._target = target
        self._deadline_s = deadline_s

    async def dial(self) -> VncConnection:
        """Connect; when the wait is cancelled, the socket is closed.

        Raises: ConsoleRefusedError when there is no screen.
        """
        link = TargetLink(self._reactor, self._target)
        silent = ConsoleRefusedError(
            BrowserRefusal.SCREEN_SILENT, f"no RFB handshake within {self._deadline_s:g} s"
        )
        deadline = ScaledTimer(self._reactor, self._deadline_s, lambda: link.fail(silent))
        try:
            return await self._connect(link)
        except BaseException as error:
            link.close()
            refusal = _refusal_of(error)
            if refusal is None or refusal is error:
                raise
            raise refusal from None
        finally:
            deadline.cancel()

    async def _connect(self, link: TargetLink) -> VncConnection:
        target = self._target
        if target.vencrypt is not None and (
            target.transport_tls is not None or target.transport is TargetTransport.WEBSOCKET
        ):
            raise RfbError("VeNCrypt within TLS or a WebSocket is not supported")
        speaks_first = target.transport is TargetTransport.TCP and target.transport_tls is None
        await link.connect(server_speaks_first=speaks_first)
        if target.transport_tls is not None:
            await link.start_tls(target.transport_tls)
        early = b""
        if target.transport is TargetTransport.HTTP_CONNECT:
            request = target_http.connect_request(target.path, self._host_header(), target.session_id)
            head = await _exchange(link, request)
            target_http.check_connected(head)
            early = head.rest
        elif target.transport is TargetTransport.WEBSOCKET:
            key = target_http.new_key()
            request = target_http.upgrade_request(target.path or "/", self._host_header(), key)
            head = await _exchange(link, request)
            target_http.check_upgraded(head, key)
            link.stream = WebSocketStream(link.stream, head.rest)
        return await self._shake_hands(link, early)

    async def _shake_hands(self, link: TargetLink, early: bytes) -> VncConnection:
        target = self._target
        handshake = ServerHandshake(
            target.password, username=target.username, tls=target.vencrypt is not None
        )
        output = handshake.receive(early)
        while True:
            await link.send(output)
            if handshake.done:
                return VncConnection(link.stream, handshake.server_init, handshake.rest())
            if handshake.needs_tls and target.vencrypt is not None:
                await link.start_tls(target.vencrypt)
                output = handshake.tls_started()
            else:
                output = handshake.receive(await link.receive())

    def _host_header(self) -> str:
        tls = self._target.transport_tls
        name = (tls.server_name if tls is not None else "") or self._target.host
        return f"[{name}]" if ":" in name else name


async def _exchange(link: TargetLink, request: bytes) -> HypervisorResponse:
    await link.send(request)
    reader = HeadReader()
    while (head := reader.receive(await link.receive())) is None:
        pass
    return head


def _refusal_of(error: BaseException) -> ConsoleRefusedError | None:
    match error:
        case ConsoleRefusedError():
            return error
        case PasswordRefusedError():
            refusal = BrowserRefusal.PASSWORD_REFUSED
        case PasswordUnusedError():
            refusal = BrowserRefusal.PASSWORD_UNUSED
        case TlsUnusedError():
            refusal = BrowserRefusal.SCREEN_UNENCRYPTED
        case RfbError() | WebSocketError():
            refusal = BrowserRefusal.SCREEN_FAULTY
        case ssl.SSLError():
            return handshake_refusal(error)  # TLS 1.3: a server refuses after the client has finished
        case OSError():
            detail = os.strerror(error.errno) if error.errno else str(error)
            return ConsoleRefusedError(BrowserRefusal.SCREEN_UNREACHABLE, detail)
        case _:
            return None
    return ConsoleRefusedError(refusal, str(error))
