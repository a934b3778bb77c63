# SPDX-License-Identifier: Apache-2.0
"""updateTemplatePermissions, listTemplatePermissions and those of ISOs, by CloudStack's rules
(TemplateManagerImpl.updateTemplateOrIsoPermissions).
"""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.templates import TemplatePermissionsAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape
from systemvm.management.api.commands.own_template import find_own, record_update
from systemvm.management.api.commands.template_list import ISO, TEMPLATE, TemplateCategory
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.state import accounts, template_permissions, templates
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import Template

UUID, BOOLEAN, LIST, STRING = (
    ParameterType.UUID,
    ParameterType.BOOLEAN,
    ParameterType.LIST,
    ParameterType.STRING,
)
OPERATIONS = ("add", "remove", "reset")
_ID = required("id", UUID, "UUID of the template or ISO")
_UPDATE = (
    _ID,
    optional("op", STRING, "add or remove accounts, or reset: none and not public", choices=OPERATIONS),
    optional("accounts", LIST, "names of accounts in the owner's domain"),
    optional("ispublic", BOOLEAN, "true: every account uses it"),
    optional("isfeatured", BOOLEAN, "feature it; for administrators only"),
    optional("isextractable", BOOLEAN, "permit its download; for administrators, or of ISOs"),
)


class TemplatePermissionCommands:
    """Handlers of the four commands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (*self._commands_of(TEMPLATE), *self._commands_of(ISO))

    def _commands_of(self, kind: TemplateCategory) -> tuple[Command, ...]:
        async def update(call: ApiCall) -> SuccessAnswer:
            await self._database.run(_update, call, kind)
            return SuccessAnswer(success=True)

        async def show(call: ApiCall) -> TemplatePermissionsAnswer:
            return await self._database.read(_show, call, kind)

        thing, names = ("an ISO" if kind.is_iso else "a template"), (f"list{kind.noun}s",)
        return (
            Command(
                f"update{kind.noun}Permissions", update, f"Shares {thing} with accounts, or with all.",
                SuccessAnswer, shape=ResponseShape.BARE, parameters=_UPDATE, related=names,
            ),
            Command(
                f"list{kind.noun}Permissions", show, f"Lists the accounts that {thing} is shared with.",
                TemplatePermissionsAnswer, "templatepermission", ResponseShape.OBJECT, (_ID,), related=names,
            ),
        )  # fmt: skip


def _update(connection: Connection, call: ApiCall, kind: TemplateCategory) -> None:
    arguments, is_admin = call.arguments, call.principal.is_admin
    template = find_own(connection, call, kind, "share")
    operation, names = arguments.text("op"), arguments.get("accounts")
    if names is not None and operation is None:
        raise parameter_error(
            "op",
            "Invalid operation on accounts, the operation must be either 'add' or 'remove' in order to "
            "modify launch permissions.",
            "send op=add or op=remove",
        )
    if operation in ("add", "remove") and not names:
        raise parameter_error(
            "accounts", f"Operation {operation} requires accounts or projects to be passed in"
        )
    if arguments.flag("isfeatured") and not is_admin:
        raise parameter_error(
            "isfeatured", "Parameter isfeatured=true can be passed by Admin only", "omit isfeatured"
        )
    if "isextractable" in arguments and not is_admin and not kind.is_iso:
        raise parameter_error(
            "isextractable", "Only Root Admin is allowed to modify this attribute.", "omit isextractable"
        )
    columns = {"ispublic": "public", "isfeatured": "featured", "isextractable": "extractable"}
    changes: dict[str, Any] = {
        column: arguments.flag(name) for name, column in columns.items() if name in arguments
    }
    if operation == "reset":
        changes |= {"public": False, "featured": False}
        template_permissions.remove_all(connection, template.id)
    elif operation is not None:
        ids = [_account(connection, template, name, operation) for name in names]
        change = template_permissions.add if operation == "add" else template_permissions.remove
        change(connection, template.id, [each for each in ids if each != template.account_id])
    if changes:
        templates.update(connection, template.id, **changes)
    record_update(connection, call, kind, template, f"permissions of {template.name} are changed")


def _account(connection: Connection, template: Template, name: str, operation: str) -> int:
    """Return an account of the owner's domain: permissions do not cross domains."""
    found = accounts.account_by_name(connection, name, template.domain_id)
    if found is None:
        domain = accounts.domain_by_id(connection, template.domain_id)
        verb = "grant" if operation == "add" else "remove"
        raise parameter_error(
            "accounts",
            f"Unable to {verb} a launch permission to account {name} in domain id={domain.uuid}, account not "
            "found.  No permissions updated, please verify the account names and retry.",
        )
    return found.id


def _show(connection: Connection, call: ApiCall, kind: TemplateCategory) -> TemplatePermissionsAnswer:
    template = find_own(connection, call, kind, "see the permissions of")
    domain = accounts.domain_by_id(connection, template.domain_id)
    return TemplatePermissionsAnswer(
        id=template.uuid,
        ispublic=template.public,
        domainid=domain.uuid if call.principal.is_admin else None,
        account=[account.name for account in template_permissions.accounts_of(connection, template.id)],
    )
