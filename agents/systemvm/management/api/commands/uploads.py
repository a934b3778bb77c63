# SPDX-License-Identifier: Apache-2.0
"""getUploadParamsForTemplate and getUploadParamsForIso, and new parameters for an upload that failed."""

from __future__ import annotations

from systemvm.management.api.answers.uploads import UploadParamsAnswer
from systemvm.management.api.command import ApiCall, Command
from systemvm.management.api.commands.own_template import find_own
from systemvm.management.api.commands.template_list import ISO, TEMPLATE, TemplateCategory
from systemvm.management.api.commands.template_registration import (
    UPLOAD_ISO,
    UPLOAD_TEMPLATE,
    registration_of,
)
from systemvm.management.api.ownership import owner_of
from systemvm.management.api.parameters import ParameterType, required
from systemvm.management.state import zones
from systemvm.management.state.database import Database
from systemvm.management.templates.service import Owner
from systemvm.management.templates.uploads import TemplateUploads, UploadParameters

OBJECT = "getuploadparams"
#: An SSVM is given 30 s to take an order, and a second one is tried.
UPLOAD_DEADLINE_S = 90.0


class UploadCommands:
    """Handlers of the four commands."""

    def __init__(self, database: Database, uploads: TemplateUploads) -> None:
        self._database = database
        self._uploads = uploads

    def commands(self) -> tuple[Command, ...]:
        return (*self._commands_of(TEMPLATE), *self._commands_of(ISO))

    def _commands_of(self, kind: TemplateCategory) -> tuple[Command, ...]:
        text = "an ISO" if kind.is_iso else "a template"
        create_name, renew_name = f"getUploadParamsFor{kind.noun}", f"renewUploadParamsFor{kind.noun}"

        async def create(call: ApiCall) -> UploadParamsAnswer:
            zone = await self._database.read(zones.zone_by_uuid, call.arguments["zoneid"])
            owner = await self._database.read(owner_of, call)
            registration = registration_of(call, kind, zone.arch or "amd64")
            new_owner = Owner(owner.id, owner.domain_id, call.principal.user.id)
            return answer_with(await self._uploads.create(registration, new_owner, zone, call.request_id))

        async def renew(call: ApiCall) -> UploadParamsAnswer:
            template = await self._database.read(find_own, call, kind, "upload")
            return answer_with(await self._uploads.renew(template.id, call.request_id))

        return (
            Command(
                create_name,
                create,
                f"Creates {text} whose user uploads its file, and returns how to send it.",
                UploadParamsAnswer,
                OBJECT,
                parameters=UPLOAD_ISO if kind.is_iso else UPLOAD_TEMPLATE,
                related=(renew_name, f"list{kind.noun}s"),
                deadline_s=UPLOAD_DEADLINE_S,
                wrapper=f"postupload{kind.noun.lower()}response",
            ),
            Command(
                renew_name,
                renew,
                f"Returns new parameters for {text}: to go on with its upload, or to repeat one that failed.",
                UploadParamsAnswer,
                OBJECT,
                parameters=(required("id", ParameterType.UUID, f"UUID of {text} that is uploaded"),),
                related=(create_name, f"list{kind.noun}s"),
                deadline_s=UPLOAD_DEADLINE_S,
            ),
        )


def answer_with(parameters: UploadParameters) -> UploadParamsAnswer:
    """Return how a file is sent."""
    return UploadParamsAnswer(
        id=parameters.template_uuid,
        post_url=parameters.post_url,
        metadata=parameters.metadata,
        expires=parameters.expires,
        signature=parameters.signature,
    )
