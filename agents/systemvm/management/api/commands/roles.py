# SPDX-License-Identifier: Apache-2.0
"""create-, list-, update- and deleteRole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from systemvm.management.accounts import roles as changes
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.roles import RoleAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY, ADMINISTRATORS, Principal
from systemvm.management.api.rights import Rights
from systemvm.management.state import roles
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.roles import DEFAULTS, TYPE_NAMES, AccountRole, DefaultRole
from systemvm.management.state.status import AccountType

STRING, UUID, BOOLEAN = ParameterType.STRING, ParameterType.UUID, ParameterType.BOOLEAN
_TYPES = tuple(TYPE_NAMES.values())
_ID = required("id", UUID, "the role")
_TYPE = "type of the accounts that can have it"
_DESCRIPTION = optional("description", STRING, "what it is for")
_NEW_DESCRIPTION = optional("description", STRING, "what it is for; empty: none", clears=True)
_PUBLIC = optional(
    "ispublic", BOOLEAN, "whether domain administrators see it and can give it; true by default"
)


@frozen
class NamedRole:
    """The role that a call names: one that was made, or one that every installation has."""

    type: AccountType
    made: AccountRole | None
    default: DefaultRole | None


def find_role(connection: Connection, uuid: str) -> NamedRole:
    """Return a role by UUID.

    Raises: NotFoundError when there is none.
    """
    for default in DEFAULTS:
        if default.uuid == uuid.lower():
            return NamedRole(default.type, None, default)
    made = roles.rows.by_uuid(connection, uuid)
    return NamedRole(AccountType(made.type), made, None)


def made_role(connection: Connection, principal: Principal, uuid: str) -> AccountRole:
    """Return a role that the caller can change.

    Raises: ApiError 431 for one that every installation has, 401 when the caller's role restricts anything.
    """
    Rights.check_may_change_roles(principal)
    found = find_role(connection, uuid)
    if found.made is None:
        raise parameter_error(
            "id",
            f"role {uuid} cannot be changed: every installation has it",
            "create another one with createRole and its roleid",
        )
    return found.made


class RoleCommands:
    """Handlers of these commands; `table` has all commands."""

    def __init__(self, database: Database, table: Iterable[Command]) -> None:
        self._database = database
        self._table = table

    def commands(self) -> tuple[Command, ...]:
        name, related = required("name", STRING, "its name"), ("listRoles", "listRolePermissions")
        return (
            Command(
                "createRole", self._create,
                "Creates a role without rules, which permits nothing; or with those of roleid.",
                RoleAnswer, "role",
                parameters=(
                    name, optional("type", STRING, _TYPE, choices=_TYPES),
                    optional("roleid", UUID, "the role whose type and rules it gets, instead of type"),
                    _DESCRIPTION, _PUBLIC,
                ),
                roles=ADMIN_ONLY, related=related,
            ),
            Command(
                "updateRole", self._update, "Changes a role.", RoleAnswer, "role",
                parameters=(
                    _ID, optional("name", STRING, "its name"),
                    optional("type", STRING, _TYPE, choices=_TYPES), _NEW_DESCRIPTION, _PUBLIC,
                ),
                roles=ADMIN_ONLY, related=related,
            ),
            Command(
                "deleteRole", self._delete, "Deletes a role that no account has.", SuccessAnswer,
                shape=ResponseShape.BARE, parameters=(_ID,), roles=ADMIN_ONLY, related=related,
            ),
            Command(
                "listRoles", paged(self._list), "Lists roles.", RoleAnswer, "role", ResponseShape.LIST,
                (
                    optional("id", UUID, "list only the one with this id"),
                    optional("name", STRING, "list only the one with this name"),
                    optional("type", STRING, "list only those of this type"),
                    optional("state", STRING, "list only those in this state; all are enabled"),
                ),
                ADMINISTRATORS, sortable=("name", "type"),
            ),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> RoleAnswer:
        return await self._database.run(self._create_now, call)

    def _create_now(self, connection: Connection, call: ApiCall) -> RoleAnswer:
        arguments = call.arguments
        Rights.check_may_change_roles(call.principal)
        if ("type" in arguments) == ("roleid" in arguments):
            raise parameter_error(
                "type", "Either role type or role ID must be given", "send one of type and roleid"
            )
        rules: list[tuple[str, bool, str]] = []
        if "roleid" in arguments:
            source = find_role(connection, arguments["roleid"])
            role_type = source.type
            rules = self._rules_of(connection, source)
        else:
            role_type = _type_named(arguments["type"])
        made = changes.create(
            connection,
            arguments["name"],
            role_type,
            arguments.get("description", ""),
            arguments.flag("ispublic", True),
            rules,
            call.principal.user.id,
        )
        return _answer(made)

    def _rules_of(self, connection: Connection, role: NamedRole) -> list[tuple[str, bool, str]]:
        if role.made is not None:
            found = roles.permissions_of(connection, role.made.id)
            return [(each.rule, each.is_allowed, each.description) for each in found]
        return [(each.name, True, "") for each in self._table if role.type in each.roles]

    async def _update(self, call: ApiCall) -> RoleAnswer:
        return await self._database.run(_update, call)

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        await self._database.run(_delete, call)
        return SuccessAnswer(success=True)

    async def _list(self, call: ApiCall) -> list[RoleAnswer]:
        arguments = call.arguments
        found = await self._database.read(roles.all_roles)
        seen = [
            each for each in found if each.removed is None and (each.is_public or call.principal.is_admin)
        ]
        answers = [*map(_default_answer, DEFAULTS), *map(_answer, seen)]
        return [
            answer
            for answer in answers
            if (call.principal.is_admin or answer.type != TYPE_NAMES[AccountType.ADMIN])
            and arguments.text("id") in (None, answer.id)
            and arguments.text("name") in (None, answer.name)
            and (arguments.text("type") or answer.type).lower() == answer.type.lower()
            and (arguments.text("state") or answer.state).lower() == answer.state
            and matches_keyword(arguments, answer.name)
        ]


def _update(connection: Connection, call: ApiCall) -> RoleAnswer:
    arguments, role = call.arguments, made_role(connection, call.principal, call.arguments["id"])
    columns: dict[str, Any] = {name: arguments[name] for name in ("name", "description") if name in arguments}
    if "type" in arguments:
        columns["type"] = int(_type_named(arguments["type"]))
    if "ispublic" in arguments:
        columns["is_public"] = arguments.flag("ispublic")
    return _answer(changes.update(connection, role.id, call.principal.user.id, **columns))


def _delete(connection: Connection, call: ApiCall) -> None:
    changes.delete(
        connection, made_role(connection, call.principal, call.arguments["id"]).id, call.principal.user.id
    )


def _type_named(name: str) -> AccountType:
    return next(kind for kind, text in TYPE_NAMES.items() if text.lower() == name.lower())


def _answer(role: AccountRole) -> RoleAnswer:
    return RoleAnswer(
        id=role.uuid,
        name=role.name,
        type=TYPE_NAMES[AccountType(role.type)],
        description=role.description or None,
        isdefault=False,
        ispublic=role.is_public,
        state="enabled",
    )


def _default_answer(role: DefaultRole) -> RoleAnswer:
    return RoleAnswer(
        id=role.uuid,
        name=role.name,
        type=role.type_name,
        description=role.description,
        isdefault=True,
        ispublic=True,
        state="enabled",
    )
