# SPDX-License-Identifier: Apache-2.0
"""createUserKey, listUserKeys and deleteUserKey: further API keys of a user, with an end and a scope.

They are additions. The key pair of CloudStack's registerUserKeys and getUserKeys is apart from them.
"""

from __future__ import annotations

from datetime import datetime

from systemvm.management.accounts import records
from systemvm.management.accounts.roles import is_rule
from systemvm.management.accounts.service import AccountService
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.user_keys import UserKeyAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.commands.users import changeable_user
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.periods import end_of
from systemvm.management.api.rights import Rights
from systemvm.management.state import accounts
from systemvm.management.state.accounts import ApiKey, User
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database

STRING, UUID = ParameterType.STRING, ParameterType.UUID
MAX_RULES = 100
_OWN = "the user; the caller by default"


class UserKeyCommands:
    """Handlers of these commands. Users have their own keys, administrators those of whom they administer."""

    def __init__(self, database: Database, service: AccountService, rights: Rights) -> None:
        self._database = database
        self._service = service
        self._rights = rights

    def commands(self) -> tuple[Command, ...]:
        related = ("createUserKey", "listUserKeys", "deleteUserKey")
        return (
            Command(
                "createUserKey", self._create,
                "Creates a further API key of a user. Its secret key is answered now, and never again.",
                UserKeyAnswer, "userkey",
                parameters=(
                    required("name", STRING, "its name, for example of the program that will use it"),
                    optional("userid", UUID, _OWN),
                    optional("enddate", ParameterType.DATE, "the last day or second that it can be used"),
                    optional(
                        "rules", ParameterType.LIST,
                        "commands that it can call, as in list*,queryAsyncJobResult; all by default",
                    ),
                ),
                related=related,
            ),
            Command(
                "listUserKeys", paged(self._list), "Lists the further API keys of a user.", UserKeyAnswer,
                "userkey", ResponseShape.LIST,
                (
                    optional("userid", UUID, _OWN),
                    optional("name", STRING, "list only the one with this name"),
                ),
                related=related,
            ),
            Command(
                "deleteUserKey", self._delete, "Deletes a further API key: it ends at once.", SuccessAnswer,
                shape=ResponseShape.BARE, parameters=(required("id", UUID, "the key"),), related=related,
            ),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> UserKeyAnswer:
        arguments = call.arguments
        user = await self._user(call)
        expires, rules = _expiry(call), _rules(arguments.get("rules"))
        key, secret = await self._service.create_key(user.id, arguments["name"], expires, rules)
        return _answer(key, user, secret)

    async def _list(self, call: ApiCall) -> list[UserKeyAnswer]:
        user, name = await self._user(call), call.arguments.text("name")
        return [
            _answer(key, user)
            for key in await self._database.read(accounts.named_keys_of, [user.id])
            if name in (None, key.name) and matches_keyword(call.arguments, key.name)
        ]

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        await self._database.run(self._delete_now, call)
        return SuccessAnswer(success=True)

    def _delete_now(self, connection: Connection, call: ApiCall) -> None:
        key = accounts.key_rows.by_uuid(connection, call.arguments["id"])
        user = accounts.user_by_id(connection, key.user_id)
        changeable_user(connection, call.principal, user.uuid, self._rights)
        if key.name is None:
            raise parameter_error(
                "id", "this key was made by registerUserKeys", "replace it by registerUserKeys"
            )
        records.delete_key(connection, key)

    async def _user(self, call: ApiCall) -> User:
        uuid = call.arguments.get("userid", call.principal.user.uuid)
        return await self._database.read(changeable_user, call.principal, uuid, self._rights)


def _expiry(call: ApiCall) -> datetime | None:
    if "enddate" not in call.arguments:  # `expires` is a part of signatures
        return None
    moment = end_of(call.arguments["enddate"])
    if moment <= now():
        raise parameter_error("enddate", "enddate is in the past", "send a later date, or omit it")
    return moment


def _rules(given: list[str] | None) -> list[str] | None:
    if given is None:
        return None
    wrong = [rule for rule in given if not is_rule(rule)]
    if wrong or not 1 <= len(given) <= MAX_RULES:
        raise parameter_error(
            "rules",
            f"Invalid value for parameter rules: it must be 1 to {MAX_RULES} patterns of letters and *",
            "write, for example, list*,queryAsyncJobResult",
        )
    return given


def _answer(key: ApiKey, user: User, secret: str | None = None) -> UserKeyAnswer:
    return UserKeyAnswer(
        id=key.uuid,
        name=key.name or "",
        userid=user.uuid,
        username=user.username,
        apikey=key.api_key,
        secretkey=secret,
        created=key.created,
        enddate=key.expires,
        rules=key.rules,
    )
