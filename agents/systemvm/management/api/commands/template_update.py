# SPDX-License-Identifier: Apache-2.0
"""updateTemplate and updateIso: change the texts and settings of one; its file stays as it is."""

from __future__ import annotations

from typing import Any

from systemvm.host.architecture import Architecture
from systemvm.management import os_types
from systemvm.management.api.answers.templates import TemplateAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape
from systemvm.management.api.commands.own_template import find_own, record_update
from systemvm.management.api.commands.template_list import ISO, TEMPLATE, TemplateCategory, answers_of
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.state import templates
from systemvm.management.state.database import Connection, Database
from systemvm.management.templates.registration import MAX_NAME_LENGTH

UUID, BOOLEAN, STRING = ParameterType.UUID, ParameterType.BOOLEAN, ParameterType.STRING
_UPDATE = (
    required("id", UUID, "UUID of the template or ISO"),
    optional("name", STRING, "the new name"),
    optional("displaytext", STRING, "the new description for people; empty: the name", clears=True),
    optional("ostypeid", UUID, "the guest's operating system; see listOsTypes"),
    optional("bootable", BOOLEAN, "VMs can boot from it"),
    optional("requireshvm", BOOLEAN, "it needs hardware virtualization"),
    optional("arch", STRING, "processor architecture"),
    optional("details", ParameterType.MAP, "further settings; they replace those of before"),
    optional("cleanupdetails", BOOLEAN, "true: remove all further settings"),
    optional("passwordenabled", BOOLEAN, "guests take passwords from the cloud"),
    only("sshkeyenabled", BOOLEAN, "guests take SSH keys from the cloud", False),
    only("isdynamicallyscalable", BOOLEAN, "change the size of running VMs", False),
    only("isrouting", BOOLEAN, "use it for virtual routers", False),
    only("templatetype", STRING, "type of the template", "USER"),
    only("forcks", BOOLEAN, "use it for Kubernetes clusters", False),
)


class TemplateUpdateCommands:
    """Handlers of both commands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (self._command_of(TEMPLATE), self._command_of(ISO))

    def _command_of(self, kind: TemplateCategory) -> Command:
        async def update(call: ApiCall) -> TemplateAnswer:
            return await self._database.run(_update, call, kind)

        return Command(
            f"update{kind.noun}",
            update,
            f"Changes the texts and settings of {'an ISO' if kind.is_iso else 'a template'}.",
            TemplateAnswer,
            kind.object_name,
            ResponseShape.OBJECT,
            _UPDATE,
            related=(f"list{kind.noun}s",),
        )


def _update(connection: Connection, call: ApiCall, kind: TemplateCategory) -> TemplateAnswer:
    arguments = call.arguments
    template = find_own(connection, call, kind, "change")
    names = {
        "displaytext": "display_text",
        "bootable": "bootable",
        "requireshvm": "hvm",
        "passwordenabled": "password_enabled",
    }
    changes: dict[str, Any] = {column: arguments[name] for name, column in names.items() if name in arguments}
    if (name := arguments.text("name")) is not None:
        if not name.strip() or len(name) > MAX_NAME_LENGTH:
            raise parameter_error("name", f"name must have 1 to {MAX_NAME_LENGTH} characters: {name[:80]!r}")
        changes["name"] = name
    if changes.get("display_text") == "":
        changes["display_text"] = name or template.name
    if (os_type := arguments.text("ostypeid")) is not None:
        if os_types.find(os_type) is None:
            raise parameter_error(
                "ostypeid", f"there is no OS type with the id {os_type}", "call listOsTypes"
            )
        changes["os_type"] = os_type
    if (arch := arguments.text("arch")) is not None:
        try:
            changes["arch"] = Architecture.of(arch).value
        except ValueError as error:
            raise parameter_error("arch", f"Invalid value for parameter arch: {error}") from None
    if arguments.flag("cleanupdetails"):
        changes["details"] = {}
    elif "details" in arguments:
        changes["details"] = arguments["details"]
    if changes:
        template = templates.update(connection, template.id, **changes)
        record_update(connection, call, kind, template, f"{template.name} is changed")
    return answers_of(connection, [template], call.principal)[0]
