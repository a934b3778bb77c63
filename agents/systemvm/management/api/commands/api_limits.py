# SPDX-License-Identifier: Apache-2.0
"""getApiLimit and resetApiLimit: how many calls an account has sent of those that it can send."""

from __future__ import annotations

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.api_limits import ApiLimitAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.throttle import ApiThrottle
from systemvm.management.state import accounts
from systemvm.management.state.database import Database


class ApiLimitCommands:
    """Handlers of both commands."""

    def __init__(self, database: Database, throttle: ApiThrottle) -> None:
        self._database = database
        self._throttle = throttle

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "getApiLimit", self._get,
                "Returns how many calls the caller's account has sent in the present interval.",
                ApiLimitAnswer, "apilimit", related=("resetApiLimit",),
            ),
            Command(
                "resetApiLimit", self._reset, "Begins a new interval for an account, or for all.",
                SuccessAnswer, shape=ResponseShape.BARE,
                parameters=(optional("account", ParameterType.UUID, "the account; all by default"),),
                roles=ADMIN_ONLY, related=("getApiLimit",),
            ),
        )  # fmt: skip

    async def _get(self, call: ApiCall) -> ApiLimitAnswer:
        account = call.principal.account
        issued = self._throttle.calls.issued(account.id, await self._throttle.limits())
        return ApiLimitAnswer(
            accountid=account.uuid,
            account=account.name,
            apiIssued=issued.issued,
            apiAllowed=issued.allowed,
            expireAfter=int(issued.expires_s * 1000),
        )

    async def _reset(self, call: ApiCall) -> SuccessAnswer:
        uuid = call.arguments.text("account")
        account_id = None if uuid is None else (await self._database.read(accounts.account_by_uuid, uuid)).id
        self._throttle.calls.reset(account_id)
        return SuccessAnswer(success=True)
