# SPDX-License-Identifier: Apache-2.0
"""create-, list-, update- and deleteRolePermission: the rules of roles."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from systemvm.management.accounts import roles as changes
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.roles import RolePermissionAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.commands.roles import find_role, made_role
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.rights import Rights
from systemvm.management.state import roles
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.roles import AccountRole, DefaultRole, Permission

STRING, UUID = ParameterType.STRING, ParameterType.UUID
_CHOICES = ("allow", "deny")
_ROLE = required("roleid", UUID, "the role")


class RolePermissionCommands:
    """Handlers of these commands; `table` has all commands."""

    def __init__(self, database: Database, table: Iterable[Command]) -> None:
        self._database = database
        self._table = table

    def commands(self) -> tuple[Command, ...]:
        related = ("listRoles", "listRolePermissions")
        return (
            Command(
                "createRolePermission", self._create,
                "Adds a rule to a role, after its others: the first that matches a command decides.",
                RolePermissionAnswer, "rolepermission",
                parameters=(
                    _ROLE, required("rule", STRING, "a command, or several with *, as in list*"),
                    required("permission", STRING, "allow or deny", choices=_CHOICES),
                    optional("description", STRING, "why"),
                ),
                roles=ADMIN_ONLY, related=related,
            ),
            Command(
                "updateRolePermission", self._update,
                "Changes what a rule does, or puts all rules of a role in another order.", SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(
                    _ROLE, optional("ruleid", UUID, "the rule; requires permission"),
                    optional("permission", STRING, "allow or deny", choices=_CHOICES),
                    optional("ruleorder", ParameterType.LIST, "UUIDs of all its rules, in their order"),
                ),
                roles=ADMIN_ONLY, related=related,
            ),
            Command(
                "deleteRolePermission", self._delete, "Deletes a rule of a role.", SuccessAnswer,
                shape=ResponseShape.BARE, parameters=(required("id", UUID, "the rule"),), roles=ADMIN_ONLY,
                related=related,
            ),
            Command(
                "listRolePermissions", paged(self._list), "Lists the rules of a role, in their order.",
                RolePermissionAnswer, "rolepermission", ResponseShape.LIST, (_ROLE,), ADMIN_ONLY,
            ),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> RolePermissionAnswer:
        return await self._database.run(_create, call)

    async def _update(self, call: ApiCall) -> SuccessAnswer:
        await self._database.run(_update, call)
        return SuccessAnswer(success=True)

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        await self._database.run(_delete, call)
        return SuccessAnswer(success=True)

    async def _list(self, call: ApiCall) -> list[RolePermissionAnswer]:
        found = await self._database.read(self._rules, call)
        return [answer for answer in found if matches_keyword(call.arguments, answer.rule)]

    def _rules(self, connection: Connection, call: ApiCall) -> list[RolePermissionAnswer]:
        role = find_role(connection, call.arguments["roleid"])
        if role.default is not None:
            default = role.default
            return [_of_default(default, each) for each in self._table if default.type in each.roles]
        made = role.made
        return [_answer(made, each) for each in roles.permissions_of(connection, made.id)] if made else []


def _create(connection: Connection, call: ApiCall) -> RolePermissionAnswer:
    arguments = call.arguments
    role = made_role(connection, call.principal, arguments["roleid"])
    made = changes.add_rule(
        connection,
        role.id,
        arguments["rule"],
        arguments["permission"].lower() == "allow",
        arguments.get("description", ""),
        call.principal.user.id,
    )
    return _answer(role, made)


def _update(connection: Connection, call: ApiCall) -> None:
    arguments, user_id = call.arguments, call.principal.user.id
    role = made_role(connection, call.principal, arguments["roleid"])
    if ("ruleorder" in arguments) == ("ruleid" in arguments):
        raise parameter_error(
            "ruleorder", "Either ruleorder, or ruleid and permission, must be given", "send one of the two"
        )
    if ("ruleid" in arguments) != ("permission" in arguments):
        raise parameter_error(
            "permission" if "ruleid" in arguments else "ruleid",
            "ruleid and permission must be given together",
        )
    if "ruleorder" in arguments:
        changes.reorder_rules(connection, role.id, arguments["ruleorder"], user_id)
        return
    rule = roles.permission_rows.by_uuid(connection, arguments["ruleid"])
    if rule.role_id != role.id:
        raise parameter_error(
            "ruleid", f"ruleid is not a rule of role {role.name}", "see listRolePermissions"
        )
    changes.change_rule(connection, rule.id, arguments["permission"].lower() == "allow", user_id)


def _delete(connection: Connection, call: ApiCall) -> None:
    Rights.check_may_change_roles(call.principal)
    rule = roles.permission_rows.by_uuid(connection, call.arguments["id"])
    changes.delete_rule(connection, rule.id, call.principal.user.id)


def _answer(role: AccountRole, permission: Permission) -> RolePermissionAnswer:
    return RolePermissionAnswer(
        id=permission.uuid,
        roleid=role.uuid,
        rolename=role.name,
        rule=permission.rule,
        permission="allow" if permission.is_allowed else "deny",
        description=permission.description or None,
    )


def _of_default(role: DefaultRole, command: Command) -> RolePermissionAnswer:
    """Return a command that a role of every installation permits, as a rule with an id that never changes."""
    return RolePermissionAnswer(
        id=str(uuid.uuid5(uuid.UUID(role.uuid), command.name)),
        roleid=role.uuid,
        rolename=role.name,
        rule=command.name,
        permission="allow",
        description=None,
    )
