# SPDX-License-Identifier: Apache-2.0
"""The console's HTTP routes: its page, the POST that spends a token, the WebSocket, and plain files.

GET and HEAD never spend a token, because mail scanners and link previews send them, too: for
`/console?cmd=auth&token=…` both return the same page, which POSTs the token to its own origin.
"""

from __future__ import annotations

import html
from urllib.parse import parse_qs

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.cpvm.assets import Asset
from systemvm.cpvm.console_server import ConsoleServer
from systemvm.cpvm.http_site import COOKIE, ConsoleRequest
from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.token_exchange import TokenExchange
from systemvm.cpvm.websocket import SUBPROTOCOL, accept_key
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.console import ConsoleAuthorize, PowerAction

CONSOLE = "/console"
#: CloudStack's own address of a console; its clients open it with the token in the query.
CLOUDSTACK_CONSOLE = "/resource/noVNC/vnc.html"
WEBSOCKIFY = "/websockify"

_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_STATIC_CACHE = "private, max-age=3600"


class Routes:
    """Answers the HTTP requests of one console server."""

    log = Logger()

    def __init__(self, server: ConsoleServer) -> None:
        self._server = server
        self._assets = server.assets
        self._tokens = TokenExchange(server.spend, server.grants)

    def dispatch(self, request: ConsoleRequest) -> None:
        """Answer a request by its path and method."""
        endpoint = self._server.public.endpoint
        if endpoint is None or not endpoint.is_host(request.header_values("Host")):
            self._refuse(request, BrowserRefusal.WRONG_HOST)
            return
        path = endpoint.route(request.path.decode("latin-1"))
        if path is None:
            self._not_found(request)
        elif path in (CONSOLE, CLOUDSTACK_CONSOLE):
            request.route = path
            if request.method == b"POST" and path == CONSOLE:
                spending = Deferred.fromCoroutine(self._spend(request, endpoint))
                spending.addErrback(self._failed, request)
            elif self._is_read(request, "GET, HEAD, POST" if path == CONSOLE else "GET, HEAD"):
                request.answer(200, self._with_base(self._assets.page), _HTML)
        elif path == WEBSOCKIFY:
            request.route = path
            self._upgrade(request, endpoint)
        elif path in self._assets.files:
            request.route, request.static = path, True
            if self._is_read(request, "GET, HEAD"):
                self._static(request, self._assets.files[path])
        else:
            self._not_found(request)

    def _not_found(self, request: ConsoleRequest) -> None:
        request.answer(404, self._page("Page not found", BrowserRefusal.NO_TOKEN.hint), _HTML)

    def _is_read(self, request: ConsoleRequest, allowed: str) -> bool:
        if request.method in (b"GET", b"HEAD"):
            return True
        request.setHeader("Allow", allowed)
        request.answer(405, b"Method not allowed. Allowed: " + allowed.encode("ascii") + b".\n", _TEXT)
        return False

    def _static(self, request: ConsoleRequest, asset: Asset) -> None:
        request.setHeader("Cache-Control", _STATIC_CACHE)
        request.setHeader("ETag", asset.etag)
        if request.header("If-None-Match") == asset.etag:
            request.answer_unchanged()
        else:
            request.answer(200, asset.content, asset.content_type)

    # -- the token

    async def _spend(self, request: ConsoleRequest, endpoint: PublicEndpoint) -> None:
        try:
            if not _is_own_page(request, endpoint):
                raise ConsoleRefusedError(BrowserRefusal.FOREIGN_ORIGIN)
            form = _fields(request.body())
            match _single(form, "cmd"):
                case "stay":
                    self._stay(request, _single(form, "session") or "")
                    return
                case "power":
                    await self._power(request, _single(form, "session") or "", _single(form, "action"))
                    return
            token, extra = _single(form, "token"), _single(form, "extra") or ""
            if token is None:
                raise ConsoleRefusedError(BrowserRefusal.NO_TOKEN)
            client = request.client_address
            spending = ConsoleAuthorize(token, client, request.request_id, extra)
            exchanged = await self._tokens.exchange(spending, _single(form, "page") or "")
        except ConsoleRefusedError as refused:
            self._refuse(request, refused.refusal)
            return
        session = exchanged.session
        self._forget_ended(request)
        request.cookies.append(self._cookie(session.session_id, exchanged.secret).encode("latin-1"))
        answer = {
            "session": session.session_id,
            "name": self._server.display_name(session),
            "policy": session.policy,
            "recorded": session.is_recorded,
            "watches": bool(session.watches),
            "kind": session.kind,
        }
        request.answer(200, msgspec.json.encode(answer), _JSON)

    def _stay(self, request: ConsoleRequest, session_id: str) -> None:
        """Keep a session open that is not used, as its user asks; raises as `_spend`."""
        self._server.stay(session_id, request.session_secret(session_id), request.client_address)
        request.answer(200, b"{}", _JSON)

    async def _power(self, request: ConsoleRequest, session_id: str, action: str | None) -> None:
        """Answer the power state of the session's VM, and change it; raises as `_spend`."""
        try:
            wanted = None if action is None else PowerAction(action)
        except ValueError:
            raise ConsoleRefusedError(BrowserRefusal.POWER_REFUSED) from None
        secret, client = request.session_secret(session_id), request.client_address
        power = await self._server.power(session_id, secret, wanted, client, request.request_id)
        request.answer(200, msgspec.json.encode(power), _JSON)

    def _cookie(self, session_id: str, secret: str) -> str:
        lifetime_s = int(self._server.grants.lifetime_left_s(session_id))
        flags = "Path=/; Secure; HttpOnly; SameSite=Strict"
        return f"{COOKIE}{session_id}={secret}; Max-Age={lifetime_s}; {flags}"

    def _forget_ended(self, request: ConsoleRequest) -> None:
        """Remove the browser's cookies of sessions that ended: many would exceed the limit of headers."""
        for session_id in request.session_cookies():
            if self._server.grants.get(session_id) is None:
                name = f"{COOKIE}{session_id}".encode("latin-1")
                request.cookies.append(name + b"=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Strict")

    def _failed(self, failure: Failure, request: ConsoleRequest) -> None:
        self.log.failure("cannot spend token", failure=failure)
        request.answer(500, b"Internal error of the console proxy.\n", _TEXT)

    # -- the WebSocket

    def _upgrade(self, request: ConsoleRequest, endpoint: PublicEndpoint) -> None:
        if not self._is_read(request, "GET"):
            return
        query = _fields(request.uri.partition(b"?")[2])
        token, session_id = _single(query, "token"), _single(query, "session")
        origins = request.header_values("Origin")
        # Browsers always send Origin. Other clients can omit it; they may use a token, but not a cookie.
        if not endpoint.is_origin(origins) and (origins or token is None):
            self._refuse(request, BrowserRefusal.FOREIGN_ORIGIN)
            return
        key = accept_key(request.header("Sec-WebSocket-Key"))
        if (
            request.method != b"GET"
            or request.clientproto != b"HTTP/1.1"
            or "websocket" not in _tokens(request.header_values("Upgrade"))
            or "upgrade" not in _tokens(request.header_values("Connection"))
            or key is None
        ):
            request.answer(400, b"Bad request: a WebSocket upgrade is expected.\n", _TEXT)
            return
        if request.header("Sec-WebSocket-Version") != "13":
            request.setHeader("Sec-WebSocket-Version", "13")
            request.answer(426, b"Unsupported WebSocket version. Supported: 13.\n", _TEXT)
            return
        if request.channel.has_early_bytes():
            # A client must not send frames before it has received the 101 response (RFC 6455 4.1).
            request.answer(400, b"Bad request: data before the response to the upgrade.\n", _TEXT)
            return
        answer = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {key}",
        ]
        if SUBPROTOCOL in _tokens(request.header_values("Sec-WebSocket-Protocol")):
            answer.append(f"Sec-WebSocket-Protocol: {SUBPROTOCOL}")

        def head_of(secret: str | None) -> bytes:
            lines = answer
            if secret is not None and session_id is not None:
                lines = [*answer, f"Set-Cookie: {self._cookie(session_id, secret)}"]
            return "\r\n".join([*lines, "", ""]).encode("ascii")

        # no line for the request: the console server logs what becomes of it
        client, request_id = request.client_address, request.request_id
        secret = request.session_secret(session_id or "")
        browser = request.channel.hand_over()
        if token is not None:
            extra = _single(query, "extra") or ""
            self._server.view_by_token(browser, head_of(None), token, extra, client, request_id)
        else:
            self._server.view(browser, head_of, session_id or "", secret, client, request_id)

    # -- pages

    def _refuse(self, request: ConsoleRequest, refusal: BrowserRefusal) -> None:
        self._server.metrics.refuse(refusal)
        if _JSON in request.header("Accept"):
            body = msgspec.json.encode({"title": refusal.title, "hint": refusal.hint})
            request.answer(refusal.http_status, body, _JSON)
        else:
            request.answer(refusal.http_status, self._page(refusal.title, refusal.hint), _HTML)

    def _page(self, title: str, hint: str) -> bytes:
        page = self._with_base(self._assets.refused).decode("utf-8")
        return (
            page.replace("{title}", html.escape(title)).replace("{hint}", html.escape(hint)).encode("utf-8")
        )

    def _with_base(self, asset: Asset) -> bytes:
        """Return a page with its links below the advertised path, wherever the page itself is shown."""
        endpoint = self._server.public.endpoint
        base = html.escape(endpoint.path if endpoint is not None else "")
        return asset.content.replace(b"{base}", base.encode("utf-8"))


def _is_own_page(request: ConsoleRequest, endpoint: PublicEndpoint) -> bool:
    site = request.header_values("Sec-Fetch-Site")
    return endpoint.is_origin(request.header_values("Origin")) and site in ([], ["same-origin"])


def _fields(text: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(text.decode("latin-1"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        return {}


def _single(fields: dict[str, list[str]], name: str) -> str | None:
    """Return a field's value when it occurs exactly once and is not empty."""
    values = fields.get(name, [])
    return values[0] if len(values) == 1 and values[0] else None


def _tokens(headers: list[str]) -> list[str]:
    return [token.strip().lower() for header in headers for token in header.split(",")]
