# SPDX-License-Identifier: Apache-2.0
"""`/client/api` over HTTP: read the parameters, authenticate, run the command, respond in JSON or XML."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.http import Request, parse_qs
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from systemvm.management.api import envelope, signature
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.command import Command, CommandTable, ResultPage
from systemvm.management.api.errors import ApiError, ErrorCode, parameter_error, unauthorized
from systemvm.management.api.failures import as_api_error
from systemvm.management.api.kept_answers import KeptAnswers
from systemvm.management.api.login import LOGIN, LOGOUT, LoginService
from systemvm.management.api.meter import UNKNOWN
from systemvm.management.api.parameters import is_added_by_clients
from systemvm.management.api.principal import Principal
from systemvm.management.api.request_parameters import read_parameters
from systemvm.management.api.sessions import Sessions
from systemvm.management.api.traffic import ApiTraffic
from systemvm.management.state.columns import now
from systemvm.management.state.list_turns import account_of_list
from systemvm.web.forwarded import Network, client_address
from systemvm.web.public_endpoint import PublicEndpoint

COOKIE = b"JSESSIONID"
KEY_COOKIE = b"sessionkey"
#: To write more takes a few milliseconds.
LONG_ANSWER_ROWS = 100
_FORM = b"application/x-www-form-urlencoded"

_HEADERS = {
    b"Cache-Control": b"no-store",
    b"X-Content-Type-Options": b"nosniff",
    b"Content-Security-Policy": b"default-src 'none'; frame-ancestors 'none'",
    b"Referrer-Policy": b"no-referrer",
}


@frozen
class PublicAddress:
    """The address at which browsers reach this API: the advertised one, not the one that it listens at."""

    secure: bool = False  # the page has https, so its cookie must not be sent in clear text
    cookie_path: str = "/client"
    origins: frozenset[str] = field(factory=frozenset)  # empty: any same-origin request
    proxies: Sequence[Network] = ()  # X-Forwarded-For is believed only from these

    @classmethod
    def of(cls, endpoint: PublicEndpoint, proxies: Sequence[Network] = ()) -> PublicAddress:
        """Return the address of the page's advertised endpoint."""
        return cls(
            secure=endpoint.scheme == "https",
            cookie_path=f"{endpoint.path}/client",
            origins=frozenset({endpoint.origin}),
            proxies=proxies,
        )

    def check_origin(self, request: Request) -> None:
        """Check that a request with a cookie comes from our page, or from a program that is not a browser.

        Raises: ApiError 401 when it comes from a page of another site.
        """
        origin = request.getHeader(b"origin")
        site = request.getHeader(b"sec-fetch-site")
        foreign = site is not None and site not in (b"same-origin", b"none")
        if origin is not None and self.origins:
            foreign = foreign or origin.decode("latin-1") not in self.origins
        if foreign:
            raise ApiError(
                ErrorCode.UNAUTHORIZED,
                "session cannot be used from another site's page",
                "open the page at its advertised address, or sign the call with an API key",
            )


class ApiResource(Resource):
    """The API's one resource. Every failure becomes an error object in the requested format."""

    isLeaf = True
    log = Logger()

    def __init__(
        self,
        table: CommandTable,
        directory: Authenticator,
        sessions: Sessions,
        login: LoginService,
        kept: KeptAnswers,
        traffic: ApiTraffic,
        *,
        front: PublicAddress | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        super().__init__()
        self._table = table
        self._traffic = traffic
        self._directory = directory
        self._sessions = sessions
        self._login = login
        self._kept = kept
        self._front = front or PublicAddress()
        self._clock = clock

    def render(self, request: Request) -> int:
        Deferred.fromCoroutine(self._serve(request)).addErrback(
            lambda failure: self.log.failure("cannot send an API response", failure=failure)
        )
        return NOT_DONE_YET

    async def _serve(self, request: Request) -> None:
        began_s = self._traffic.meter.seconds()
        gone = request.notifyFinish()
        gone.addErrback(lambda _: None)
        exchange = ApiRequest(request, uuid.uuid4().hex, self._front.proxies)
        try:
            if request.method not in (b"GET", b"POST"):
                raise ApiError(
                    ErrorCode.METHOD_NOT_ALLOWED, "method is not allowed: the API takes GET and POST only"
                )
            exchange.read()
            body = await self._answer(exchange)
        except Exception as error:
            problem = as_api_error(error, exchange.request_id)
            body = envelope.write(envelope.error_answer(self._known(exchange), problem), exchange.form)
            request.setResponseCode(int(problem.code), problem.code.reason.encode())
            if problem.retry_after_s is not None:
                request.setHeader(b"Retry-After", str(int(problem.retry_after_s) + 1).encode())
        command = self._known(exchange)
        self._traffic.meter.observe(command.name if command else UNKNOWN, request.code, began_s)
        if not gone.called:
            self._send(exchange, body)

    def _known(self, exchange: ApiRequest) -> Command | None:
        return self._table.find(exchange.command) if exchange.command in self._table else None

    def _send(self, exchange: ApiRequest, body: bytes) -> None:
        request = exchange.request
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        request.setHeader(b"Content-Type", envelope.CONTENT_TYPES[exchange.form].encode())
        request.setHeader(b"X-Request-Id", exchange.request_id.encode())
        request.setHeader(b"Content-Length", str(len(body)).encode())
        request.write(body)
        request.finish()

    async def _answer(self, exchange: ApiRequest) -> bytes:
        if exchange.command == LOGIN.name:
            return envelope.write(await self._log_in(exchange), exchange.form)
        if exchange.command == LOGOUT.name:
            return envelope.write(await self._log_out(exchange), exchange.form)
        principal = await self._authenticate(exchange)
        await self._traffic.throttle.admit(principal)
        command = self._table.find(exchange.command)

        async def make() -> bytes:
            run = command.run(principal, exchange.parameters, exchange.client_address, exchange.request_id)
            if not command.name.startswith("list"):
                return envelope.write(envelope.answer(command, await run), exchange.form)
            return await self._list(str(principal.account.id), command, run, exchange.form)

        if not command.kept:
            return await make()
        given = frozenset(
            item for item in exchange.parameters.items() if not is_added_by_clients(item[0].lower())
        )
        return await self._kept.get((principal, command.name, exchange.form, given), make)

    async def _list(self, account: str, command: Command, run: Awaitable[Any], form: str) -> bytes:
        """Return the answer of a list, whose reads wait for their account's turn.

        A long one is written in a thread: others are served while that runs Python code, but not during the
        last step, JSON's, which is one call of C code.
        """
        token = account_of_list.set(account)
        try:
            result = await run
        finally:
            account_of_list.reset(token)

        def write() -> bytes:
            return envelope.written_answer(command, result, form)

        is_long = isinstance(result, ResultPage) and len(result.rows) > LONG_ANSWER_ROWS and not result.json
        return await self._traffic.lists.run(account, write) if is_long else write()

    async def _authenticate(self, exchange: ApiRequest) -> Principal:
        """Authenticate by API key and signature, or by session cookie and session key.

        Raises: ApiError 401 when neither is valid.
        """
        api_key = exchange.named("apikey")
        if api_key is not None:
            found = await self._directory.by_api_key(api_key)
            if found is None:
                raise unauthorized()
            principal, secret = found
            signature.verify(exchange.parameters, secret, self._clock())
            return principal
        self._front.check_origin(exchange.request)
        cookie, session_key = exchange.cookie, exchange.named("sessionkey")
        found_session = await self._sessions.find(cookie, session_key) if cookie and session_key else None
        if found_session is None:
            raise unauthorized()
        return found_session

    async def _log_in(self, exchange: ApiRequest) -> dict[str, Any]:
        if exchange.request.method != b"POST":
            raise ApiError(
                ErrorCode.METHOD_NOT_ALLOWED,
                "login must be sent by POST",
                "send the parameters in the body: a password in a URL ends up in logs",
            )
        self._front.check_origin(exchange.request)
        if any(name.lower() == "password" for name in exchange.in_query):
            raise ApiError(ErrorCode.MALFORMED_REQUEST, "password must be in the body, not in the URL")
        answer, opened = await self._login.login(exchange.parameters, exchange.client_address)
        self._set_cookie(exchange.request, COOKIE, opened.cookie.encode(), max_age=None)
        # CloudMonkey takes the key from here; it proves nothing here, only as a parameter
        self._set_cookie(exchange.request, KEY_COOKIE, answer.sessionkey.encode(), max_age=None)
        return envelope.answer(LOGIN, answer)

    async def _log_out(self, exchange: ApiRequest) -> dict[str, Any]:
        """End the session. The session key is required, so that no other site can log a user out."""
        await self._authenticate(exchange)
        answer = await self._login.logout(exchange.cookie)
        for name in (COOKIE, KEY_COOKIE):
            self._set_cookie(exchange.request, name, b"", max_age=b"0")
        return envelope.answer(LOGOUT, answer)

    def _set_cookie(self, request: Request, name: bytes, value: bytes, max_age: bytes | None) -> None:
        request.addCookie(
            name,
            value,
            path=self._front.cookie_path.encode(),
            max_age=max_age,
            httpOnly=True,
            secure=self._front.secure,
            sameSite=b"strict",
        )


class ApiRequest:
    """One request, read step by step, so that an error at any step is sent in the requested format."""

    def __init__(self, request: Request, request_id: str, proxies: Sequence[Network] = ()) -> None:
        self.request = request
        self._proxies = proxies
        self.request_id = request_id
        self.form = "xml"
        self.command = ""
        self.parameters: dict[str, str] = {}
        self.in_query = [name.decode("latin-1") for name in parse_qs(_query(request), keep_blank_values=True)]

    def read(self) -> None:
        """Decode the parameters.

        Raises: ApiError 430, 431 or 400 for what cannot be used.
        """
        arguments: dict[bytes, list[bytes]] = request_arguments(self.request)
        self._choose_form(arguments)
        self.parameters = read_parameters(arguments)
        self.command = self.named("command") or ""
        if not self.command:
            raise ApiError(
                ErrorCode.MALFORMED_REQUEST,
                "parameter command is missing",
                "send command=listApis for the commands",
            )

    def _choose_form(self, arguments: dict[bytes, list[bytes]]) -> None:
        [asked] = arguments.get(b"response", [b"xml"])[:1]
        form = asked.decode("latin-1").lower()
        if form not in envelope.CONTENT_TYPES:
            raise parameter_error("response", "Invalid value for parameter response", "send json or xml")
        self.form = form

    def named(self, name: str) -> str | None:
        """Return a parameter, whatever the case of its name: clients write apiKey, apikey and apiKEY."""
        for key, value in self.parameters.items():
            if key.lower() == name:
                return value
        return None

    @property
    def cookie(self) -> str:
        value: bytes | None = self.request.getCookie(COOKIE)
        return "" if value is None else value.decode("latin-1")

    @property
    def client_address(self) -> str:
        peer = str(getattr(self.request.getClientAddress(), "host", "local"))
        forwarded_for = self.request.requestHeaders.getRawHeaders("X-Forwarded-For", [])
        return client_address(peer, forwarded_for, self._proxies)


def _query(request: Request) -> bytes:
    uri: bytes = request.uri
    return uri.partition(b"?")[2]


def request_arguments(request: Request) -> dict[bytes, list[bytes]]:
    """Return the parameters of query and form. Twisted's own lets a form silently replace the query's values.

    Raises: ApiError 400 for a form with another encoding than CloudStack's clients use.
    """
    arguments: dict[bytes, list[bytes]] = parse_qs(_query(request), keep_blank_values=True)
    if request.method != b"POST" or request.content is None:
        return arguments
    request.content.seek(0)
    body = request.content.read()
    encoding = (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
    if encoding.startswith(b"multipart/"):
        raise ApiError(
            ErrorCode.MALFORMED_REQUEST,
            "multipart forms are not supported",
            "send the parameters as application/x-www-form-urlencoded",
        )
    if encoding == _FORM:
        for name, values in parse_qs(body, keep_blank_values=True).items():
            arguments.setdefault(name, []).extend(values)
    return arguments


class ClientResource(Resource):
    """`/client`, the parent of the API, as in CloudStack, and of the changes that pages follow."""

    def __init__(self, api: ApiResource, changes: IResource) -> None:
        super().__init__()
        self.putChild(b"api", api)
        self.putChild(b"changes", changes)

    def getChild(self, path: bytes, request: Request) -> IResource:
        return notFound()
