# SPDX-License-Identifier: Apache-2.0
"""Second factors of users: set up, confirmed by a first code, asked for at each login, and given up.

One that is set up holds, whatever the settings say later: they decide who can, and who must, set one up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attrs import field, frozen

from systemvm.management.accounts import records, totp
from systemvm.management.accounts.errors import AccountError
from systemvm.management.configurations import second_factor as settings
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, second_factors, sessions
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.second_factors import SecondFactor


@frozen
class Enrolment:
    """What a user gives an authenticator app, in clear text."""

    secret: str = field(repr=False)
    address: str = field(repr=False)  # an `otpauth:` URI
    qr_rows: list[str] = field(repr=False)


@frozen
class Requirement:
    """What a login of a user needs besides the password."""

    is_set_up: bool
    is_mandated: bool
    issuer: str

    @property
    def holds(self) -> bool:
        return self.is_set_up or self.is_mandated


class SecondFactors:
    """Its methods raise AccountError for what is rejected."""

    def __init__(self, database: Database, seal: Seal, *, clock: Callable[[], datetime] = now) -> None:
        self._database = database
        self._seal = seal
        self._clock = clock

    async def requirement(self, user_id: int) -> Requirement:
        return await self._database.read(_requirement, user_id)

    async def set_up(self, user_id: int) -> Enrolment:
        """Give a user a new secret. Logins ask for its codes once `validate` got the first one."""
        secret = totp.new_secret()
        name, issuer = await self._database.run(_set_up, user_id, self._seal.close(secret))
        address = totp.address_of(secret, name, issuer)
        return Enrolment(secret, address, totp.qr_rows(address))

    async def validate(self, user_id: int, code: str, login_uuid: str | None) -> bool:
        """Verify a code, and with it the login that sent it; return whether it is right and new."""
        factor = await self._database.read(second_factors.of_user, user_id)
        if factor is None:
            raise AccountError(
                "user has no second factor",
                "call setupUserTwoFactorAuthentication to set one up",
                parameter="codefor2fa",
            )
        secret = self._seal.open(factor.sealed_secret)
        step = totp.matching_step(secret, code, self._clock(), after=factor.last_step)
        return step is not None and await self._database.run(_use, factor, step, login_uuid)

    async def disable(self, user_id: int, *, by_administrator: bool) -> None:
        """Delete a user's second factor. One that is mandated only an administrator takes from others."""
        await self._database.run(_disable, user_id, by_administrator)


def _requirement(connection: Connection, user_id: int) -> Requirement:
    present = settings.read(connection)
    is_set_up = bool(second_factors.confirmed_among(connection, [user_id]))
    is_mandated = present.mandates(accounts.user_by_id(connection, user_id))
    return Requirement(is_set_up, is_mandated, present.issuer)


def _set_up(connection: Connection, user_id: int, sealed_secret: bytes) -> tuple[str, str]:
    user, present = records.require_user(connection, user_id), settings.read(connection)
    if not present.is_enabled:
        raise AccountError(
            "two factor authentication is not enabled", f"ask an administrator to set {settings.ENABLE.name}"
        )
    if second_factors.confirmed_among(connection, [user_id]):
        raise AccountError(
            f"user {user.username} has a second factor already",
            "disable it before you set up another one",
            parameter="enable",
        )
    second_factors.replace(connection, user_id, sealed_secret)
    return user.username, present.issuer


def _use(connection: Connection, factor: SecondFactor, step: int, login_uuid: str | None) -> bool:
    if not second_factors.use(connection, factor, step):
        return False
    if not factor.is_confirmed:
        user = records.require_user(connection, factor.user_id)
        records.record_of_user(connection, user, "USER.UPDATE", "has a second factor")
    if login_uuid is not None:
        sessions.verify(connection, login_uuid)
    return True


def _disable(connection: Connection, user_id: int, by_administrator: bool) -> None:
    user = records.require_user(connection, user_id)
    if settings.read(connection).mandates(user) and not by_administrator:
        raise AccountError(
            "two factor authentication is mandated by the administrator",
            "ask an administrator to disable it for you, then set it up again",
            parameter="enable",
        )
    if second_factors.delete(connection, user_id):
        records.record_of_user(connection, user, "USER.UPDATE", "has no second factor any more")
    sessions.end_unverified(connection, user_id)  # there is nothing that would verify them
