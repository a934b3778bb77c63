# SPDX-License-Identifier: Apache-2.0
"""Commands of second factors; they are all that a session can call before it has verified its own."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from systemvm.management.accounts.second_factors import Enrolment, SecondFactors
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.second_factors import SecondFactorAnswer, SecondFactorProviderAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.commands.users import changeable_user
from systemvm.management.api.errors import ApiError, ErrorCode, parameter_error, second_factor_required
from systemvm.management.api.login_limit import Attempt, LoginLimit
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.api.rights import Rights
from systemvm.management.state import accounts
from systemvm.management.state.accounts import User
from systemvm.management.state.database import Database

_NAMES = (
    "setupUserTwoFactorAuthentication",
    "validateUserTwoFactorAuthenticationCode",
    "listUserTwoFactorAuthenticatorProviders",
)
PROVIDER = "totp"
_ABOUT = "Codes of an authenticator app, which change every 30 s (RFC 6238)."
#: A code is one of a million, and three are right at a time. After these guesses there is one each minute.
GUESSES, WINDOW_S = 5, 300.0


def _too_many_codes(wait_s: float) -> ApiError:
    return ApiError(
        ErrorCode.RATE_LIMITED,
        "too many wrong codes",
        f"try again in {int(wait_s) + 1} s, or use an API key",
        retry_after_s=wait_s,
    )


class SecondFactorCommands:
    """Handlers of these commands. Administrators can disable the second factors of whom they administer."""

    _log = Logger()

    def __init__(
        self, database: Database, service: SecondFactors, rights: Rights, seconds: Callable[[], float]
    ) -> None:
        self._database = database
        self._service = service
        self._rights = rights
        self._limit = LoginLimit(seconds, GUESSES, WINDOW_S, refusal=_too_many_codes)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                _NAMES[0],
                self._set_up,
                "Gives the caller a secret for an authenticator app, or disables a second factor.",
                SecondFactorAnswer,
                "setup2fa",
                parameters=(
                    only("provider", ParameterType.STRING, "what makes the codes", PROVIDER),
                    optional("enable", ParameterType.BOOLEAN, "false: disable it; true by default"),
                    optional(
                        "userid", ParameterType.UUID, "with enable=false: the user; the caller by default"
                    ),
                ),
                related=_NAMES,
                before_verification=True,
            ),
            Command(
                _NAMES[1],
                self._validate,
                "Verifies a code: the first one confirms the setup, later ones the session that sends them.",
                SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(required("codefor2fa", ParameterType.STRING, "the code"),),
                related=_NAMES,
                before_verification=True,
            ),
            Command(
                _NAMES[2],
                paged(self._list),
                "Lists what can make the codes of second factors.",
                SecondFactorProviderAnswer,
                "providers",
                ResponseShape.LIST,
                (optional("name", ParameterType.STRING, "list only the one with this name"),),
                related=_NAMES,
                before_verification=True,
            ),
        )

    async def _set_up(self, call: ApiCall) -> SecondFactorAnswer:
        arguments, principal = call.arguments, call.principal
        if arguments.get("enable", True):
            if "userid" in arguments:
                raise parameter_error(
                    "userid", "userid is only for enable=false", "have the user set up the second factor"
                )
            return await self._answer(principal.user, await self._service.set_up(principal.user.id))
        if not principal.is_verified:
            raise second_factor_required()
        uuid = arguments.get("userid", principal.user.uuid)
        user = await self._database.read(changeable_user, principal, uuid, self._rights)
        # operators act as an administrator, who can have lost the telephone
        is_another = principal.is_operator or user.id != principal.user.id
        await self._service.disable(user.id, by_administrator=is_another)
        return await self._answer(user)

    async def _validate(self, call: ApiCall) -> SuccessAnswer:
        principal = call.principal
        attempt = Attempt(principal.user.uuid, principal.user.uuid)
        self._limit.admit(attempt)
        if not await self._service.validate(
            principal.user.id, call.arguments["codefor2fa"].strip(), principal.login_uuid
        ):
            self._log.info(
                "code of {username!r} refused from {client}",
                username=principal.user.username,
                client=call.client_address,
            )
            raise ApiError(
                ErrorCode.SECOND_FACTOR,
                "two factor authentication code is wrong, or was used before",
                "wait for the next code of your authenticator app; its clock must be right",
            )
        self._limit.succeeded(attempt)
        return SuccessAnswer(success=True)

    async def _list(self, call: ApiCall) -> list[SecondFactorProviderAnswer]:
        named = call.arguments.text("name") in (None, PROVIDER)
        is_listed = named and matches_keyword(call.arguments, PROVIDER, _ABOUT)
        return [SecondFactorProviderAnswer(name=PROVIDER, description=_ABOUT)] if is_listed else []

    async def _answer(self, user: User, enrolment: Enrolment | None = None) -> SecondFactorAnswer:
        account = await self._database.read(accounts.account_by_id, user.account_id)
        return SecondFactorAnswer(
            id=user.uuid,
            username=user.username,
            accountid=account.uuid,
            secretcode=None if enrolment is None else enrolment.secret,
            uri=None if enrolment is None else enrolment.address,
            qrcode=None if enrolment is None else enrolment.qr_rows,
        )
