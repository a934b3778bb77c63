# SPDX-License-Identifier: Apache-2.0
"""`login` and `logout`: the two commands of the HTTP session itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from systemvm.management.accounts.second_factors import Requirement, SecondFactors
from systemvm.management.api.answers.access import LoginAnswer, LogoutAnswer
from systemvm.management.api.authentication import Authenticator
from systemvm.management.api.command import ApiCall, Command, ResponseShape
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.login_limit import Attempt, LoginLimit
from systemvm.management.api.parameters import ParameterType, optional, read_arguments, required
from systemvm.management.api.principal import Principal
from systemvm.management.api.sessions import IDLE_LIMIT, OpenedSession, Sessions
from systemvm.service.connection_limits import source_of_address


async def _over_http_only(call: ApiCall) -> Any:
    raise ApiError(
        ErrorCode.UNSUPPORTED,
        "login and logout exist over HTTP only",
        "omit it: a socket needs no login",
    )


LOGIN = Command(
    "login",
    _over_http_only,
    "Opens a session: returns a cookie, and a session key to send with every later call. POST only.",
    LoginAnswer,
    shape=ResponseShape.BARE,
    parameters=(
        required("username", ParameterType.STRING, "name of the user"),
        required(
            "password",
            ParameterType.STRING,
            "the password in clear text; use HTTPS except on the host itself",
        ),
        optional("domain", ParameterType.STRING, "path of the user's domain; the root domain by default"),
        optional("domainid", ParameterType.UUID, "UUID of the user's domain, instead of its path"),
    ),
)
LOGOUT = Command("logout", _over_http_only, "Ends the session.", LogoutAnswer, shape=ResponseShape.BARE)


class Consoles(Protocol):
    """Ends the consoles of a login."""

    async def of_login(self, login_uuid: str) -> None: ...


class LoginService:
    """Opens sessions for users with the right password, at a limited rate, and ends them."""

    log = Logger()

    def __init__(
        self,
        directory: Authenticator,
        sessions: Sessions,
        second_factors: SecondFactors,
        clock: IReactorTime,
        consoles: Consoles,
    ) -> None:
        self._directory = directory
        self._sessions = sessions
        self._second_factors = second_factors
        self._clock = clock
        self._limit = LoginLimit(clock.seconds)
        self._consoles = consoles

    async def login(self, raw: Mapping[str, str], client_address: str) -> tuple[LoginAnswer, OpenedSession]:
        arguments = read_arguments(LOGIN.parameters, raw, LOGIN.name)
        username, password = arguments["username"], arguments["password"]
        domain = arguments.get("domain", "/")
        if "domainid" in arguments:
            domain = await self._directory.domain_path(arguments["domainid"])
        source = source_of_address(client_address)
        trusted = await self._directory.trusts(username, domain, source)
        attempt = Attempt(source, _account_key(username, domain), trusted)
        delay_s = self._limit.admit(attempt)
        if delay_s > 0:
            await deferLater(self._clock, delay_s)
        principal = await self._directory.by_password(
            username, password, domain, source=source, trusted=trusted
        )
        opened = needed = None
        if principal is not None:
            needed = await self._second_factors.requirement(principal.user.id)
            opened = await self._sessions.open(principal, client_address, is_verified=not needed.holds)
        if principal is None or needed is None or opened is None:
            self.log.info(
                "login refused for {username!r} from {client}", username=username, client=client_address
            )
            raise ApiError(
                ErrorCode.ACCOUNT,
                f"Failed to authenticate user {username}; please provide valid credentials",
            )
        self._limit.succeeded(attempt)
        await self._directory.trust(principal, source)
        self.log.info("{username} logged in from {client}", username=username, client=client_address)
        return _answer(principal, opened, needed), opened

    async def logout(self, cookie: str) -> LogoutAnswer:
        """End the session and the consoles that were opened in it."""
        login_uuid = await self._sessions.end(cookie)
        if login_uuid is not None:
            await self._consoles.of_login(login_uuid)
        return LogoutAnswer(description="success")


def _account_key(username: str, domain: str) -> str:
    """Return the same key for a user however the domain's path is written."""
    path = domain.strip("/").lower()
    return f"{'' if path == 'root' else path}/{username.lower()}"


def _answer(principal: Principal, opened: OpenedSession, needed: Requirement) -> LoginAnswer:
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
        is2faenabled=str(needed.holds).lower(),
        is2faverified=str(not needed.holds).lower(),
        providerfor2fa="totp" if needed.is_set_up else None,
        issuerfor2fa=needed.issuer if needed.holds else None,
    )
