# SPDX-License-Identifier: Apache-2.0
"""retryTemplate and retryIso: repeat a failed download without registering the template again.

CloudStack has no such commands. The template keeps its id, so scripts that use it continue to work.
"""

from __future__ import annotations

from systemvm.management.api.answers.templates import TemplateAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape
from systemvm.management.api.commands.own_template import find_own
from systemvm.management.api.commands.template_list import ISO, TEMPLATE, TemplateCategory, answers_of
from systemvm.management.api.parameters import ParameterType, required
from systemvm.management.state.database import Database
from systemvm.management.templates.service import TemplateService

_ID = (required("id", ParameterType.UUID, "UUID of one whose download failed"),)


class TemplateRetryCommands:
    """Handlers of both commands."""

    def __init__(self, database: Database, service: TemplateService) -> None:
        self._database = database
        self._service = service

    def commands(self) -> tuple[Command, ...]:
        return (self._command_of(TEMPLATE), self._command_of(ISO))

    def _command_of(self, kind: TemplateCategory) -> Command:
        async def retry(call: ApiCall) -> list[TemplateAnswer]:
            template = await self._database.read(find_own, call, kind, "retry")
            await self._service.retry(template.id, call.request_id)
            return await self._database.read(answers_of, [template], call.principal)

        return Command(
            f"retry{kind.noun}",
            retry,
            f"Repeats the failed download of {'an ISO' if kind.is_iso else 'a template'}.",
            TemplateAnswer,
            kind.object_name,
            ResponseShape.LIST,
            _ID,
            paged=False,
            related=(f"register{kind.noun}", f"list{kind.noun}s"),
        )
