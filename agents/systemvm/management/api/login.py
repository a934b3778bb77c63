# SPDX-License-Identifier: Apache-2.0
"""`login` and `logout`: the two commands that are about the HTTP session itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.logger import Logger

from systemvm.management.api.accounts import Directory
from systemvm.management.api.answers.access import LoginAnswer, LogoutAnswer
from systemvm.management.api.command import ApiCall, Command, Shape
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.login_limit import LoginLimit
from systemvm.management.api.parameters import ParameterType, optional, read_arguments, required
from systemvm.management.api.principal import Principal
from systemvm.management.api.sessions import IDLE_LIMIT, OpenedSession, Sessions


async def _over_http_only(call: ApiCall) -> Any:
    raise ApiError(ErrorCode.UNSUPPORTED, "this command exists over HTTP only", "sockets need no login")


LOGIN = Command(
    "login",
    _over_http_only,
    "Opens a session: a cookie, and a session key to send with every later call. POST only.",
    LoginAnswer,
    shape=Shape.BARE,
    parameters=(
        required("username", ParameterType.STRING, "the user's name"),
        required("password", ParameterType.STRING, "the password, in clear; use HTTPS away from the host"),
        optional("domain", ParameterType.STRING, "path of the user's domain; the root without it"),
    ),
)
LOGOUT = Command("logout", _over_http_only, "Ends the session.", LogoutAnswer, shape=Shape.BARE)


class Consoles(Protocol):
    """Who ends the consoles of a login."""

    async def of_login(self, login_uuid: str) -> None: ...


class Login:
    """Opens sessions for passwords, at a limited rate, and ends them."""

    log = Logger()

    def __init__(
        self, directory: Directory, sessions: Sessions, limit: LoginLimit, consoles: Consoles
    ) -> None:
        self._directory = directory
        self._sessions = sessions
        self._limit = limit
        self._consoles = consoles

    async def login(self, raw: Mapping[str, str], client_address: str) -> tuple[LoginAnswer, OpenedSession]:
        arguments = read_arguments(LOGIN.parameters, raw, LOGIN.name)
        username, password = arguments["username"], arguments["password"]
        self._limit.check(client_address, username)
        # Counted before the password is looked at: guesses sent side by side must not all pass the check.
        self._limit.failed(client_address, username)
        principal = await self._directory.by_password(username, password, arguments.get("domain", "/"))
        if principal is None:
            self.log.info(
                "login refused for {username!r} from {client}", username=username, client=client_address
            )
            raise ApiError(
                ErrorCode.ACCOUNT,
                f"Failed to authenticate user {username}; please provide valid credentials",
            )
        self._limit.succeeded(client_address, username)
        opened = await self._sessions.open(principal, client_address)
        self.log.info("{username} logged in from {client}", username=username, client=client_address)
        return _answer(principal, opened), opened

    async def logout(self, cookie: str) -> LogoutAnswer:
        """End the session, and the consoles that were opened in it."""
        login_uuid = await self._sessions.end(cookie)
        if login_uuid is not None:
            await self._consoles.of_login(login_uuid)
        return LogoutAnswer(description="success")


def _answer(principal: Principal, opened: OpenedSession) -> LoginAnswer:
    return LoginAnswer(
        username=principal.user.username,
        userid=principal.user.uuid,
        account=principal.account.name,
        domainid=principal.domain.uuid,
        type=str(int(principal.account_type)),
        firstname=principal.user.first_name,
        lastname=principal.user.last_name,
        timeout=int(IDLE_LIMIT.total_seconds()),
        timezone="UTC",
        timezoneoffset="0.0",
        registered="false",
        sessionkey=opened.session_key,
        is2faenabled="false",
        is2faverified="true",
    )
