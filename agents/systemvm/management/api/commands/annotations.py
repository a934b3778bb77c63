# SPDX-License-Identifier: Apache-2.0
"""addAnnotation, listAnnotations, removeAnnotation, updateAnnotationVisibility: texts about objects.

The rules are CloudStack's (AnnotationManagerImpl). Users annotate what they own, root administrators all
objects. What only administrators see is hidden from its author, too, unless that is a root administrator.
"""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.management.api.answers.annotations import AnnotationAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.paging import page_window
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.state import accounts, entity_annotations, events
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.entity_annotations import ENTITY_TYPES, Annotation, AnnotationFilter

UUID, STRING = ParameterType.UUID, ParameterType.STRING
ADD, LIST = "addAnnotation", "listAnnotations"
REMOVE, UPDATE = "removeAnnotation", "updateAnnotationVisibility"
_RELATED = (ADD, LIST, REMOVE, UPDATE)
MAX_CHARACTERS = 4096
_ID = required("id", UUID, "the annotation")
_ONLY = "whether only root administrators see it"


class AnnotationCommands:
    """Handlers of these commands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        kinds = tuple(ENTITY_TYPES)
        return (
            Command(
                ADD, self._add, "Writes a text about an object.", AnnotationAnswer, "annotation",
                parameters=(
                    required("annotation", STRING, "the text"),
                    required("entitytype", STRING, "type of the object", choices=kinds),
                    required("entityid", UUID, "the object"),
                    optional("adminsonly", ParameterType.BOOLEAN, _ONLY),
                ),
                related=_RELATED,
            ),
            Command(
                LIST, self._list, "Lists texts about objects, the newest first.", AnnotationAnswer,
                "annotation", ResponseShape.LIST,
                (
                    optional("id", UUID, "list only the one with this id"),
                    optional("entitytype", STRING, "list only those of this type of objects", choices=kinds),
                    optional("entityid", UUID, "list only those of this object"),
                    optional("userid", UUID, "list only those that this user wrote"),
                    optional(
                        "annotationfilter", STRING,
                        "self: only those that the caller wrote; all: others', too",
                        choices=("self", "all"),
                    ),
                ),
                related=_RELATED,
            ),
            Command(
                REMOVE, self._remove, "Removes a text about an object.", AnnotationAnswer, "annotation",
                parameters=(_ID,), related=_RELATED,
            ),
            Command(
                UPDATE, self._update, "Shows a text to the object's owner, too, or only to administrators.",
                AnnotationAnswer, "annotation",
                parameters=(_ID, required("adminsonly", ParameterType.BOOLEAN, _ONLY)), roles=ADMIN_ONLY,
                related=_RELATED,
            ),
        )  # fmt: skip

    async def _add(self, call: ApiCall) -> AnnotationAnswer:
        return await self._database.run(_add, call)

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)

    async def _remove(self, call: ApiCall) -> AnnotationAnswer:
        return await self._database.run(_remove, call)

    async def _update(self, call: ApiCall) -> AnnotationAnswer:
        return await self._database.run(_update, call)


def _add(connection: Connection, call: ApiCall) -> AnnotationAnswer:
    """Raises: ApiError 401 for an object of another account, NotFoundError when there is none."""
    wanted, principal = call.arguments, call.principal
    kind, uuid = wanted["entitytype"], wanted["entityid"]
    if not principal.is_admin and not ENTITY_TYPES[kind].is_of_users:
        raise unauthorized(
            f"User: {principal.user.username} is not allowed to add annotations on type: {kind}",
            parameter="entitytype",
        )
    owner = entity_annotations.owner_of(connection, kind, uuid)
    if not principal.is_admin and (owner is None or not principal.may_use(owner)):
        raise unauthorized(f"account {principal.account.name} must not annotate this object", value=uuid)
    text = wanted["annotation"].strip()
    if not 0 < len(text) <= MAX_CHARACTERS:
        raise parameter_error(
            "annotation",
            f"annotation has {len(text)} characters, it must have 1 to {MAX_CHARACTERS}",
            "write at least a word" if not text else "shorten it",
        )
    added = entity_annotations.rows.insert(
        connection,
        entity_type=kind,
        entity_uuid=uuid,
        account_id=owner,
        user_id=principal.user.id,
        annotation=text,
        admins_only=wanted.flag("adminsonly"),
    )
    _record(connection, call, added, "CREATE", "creating an annotation on an entity")
    return _answers(connection, [added])[0]


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    wanted, principal = call.arguments, call.principal
    if "id" in wanted and ("entitytype" in wanted or "entityid" in wanted):
        raise parameter_error(
            "id",
            "id excludes entitytype and entityid: it is one annotation, and these are those of objects",
            "omit id, or entitytype and entityid",
        )
    user_ids = set()
    if "userid" in wanted:
        author = accounts.user_rows.find(connection, wanted["userid"])
        user_ids.add(None if author is None else author.id)
    if wanted.text("annotationfilter") == "self":
        user_ids.add(principal.user.id)
    if len(user_ids) > 1 or None in user_ids:
        return ResultPage([], 0)
    which = AnnotationFilter(
        reader_ids=principal.account_ids,
        uuid=wanted.text("id"),
        entity_type=wanted.text("entitytype"),
        entity_uuid=wanted.text("entityid"),
        user_id=user_ids.pop() if user_ids else None,
        keyword=wanted.text("keyword"),
    )
    found, count = entity_annotations.page(connection, which, page_window(wanted))
    return ResultPage(_answers(connection, found), count)


def _remove(connection: Connection, call: ApiCall) -> AnnotationAnswer:
    """Raises: ApiError 401 when somebody else wrote it."""
    annotation = entity_annotations.rows.by_uuid(connection, call.arguments["id"])
    if not call.principal.is_admin and annotation.user_id != call.principal.user.id:
        raise unauthorized(
            "Only administrators or entity owner users can delete annotations,"
            f" cannot remove annotation with uuid: {annotation.uuid}",
            value=annotation.uuid,
        )
    answer = _answers(connection, [annotation])[0]
    entity_annotations.delete(connection, annotation.id)
    _record(connection, call, annotation, "REMOVE", "removing an annotation on an entity")
    return answer


def _update(connection: Connection, call: ApiCall) -> AnnotationAnswer:
    annotation = entity_annotations.rows.by_uuid(connection, call.arguments["id"])
    changed = entity_annotations.rows.update(
        connection, annotation.id, admins_only=call.arguments.flag("adminsonly")
    )
    return _answers(connection, [changed])[0]


def _record(connection: Connection, call: ApiCall, about: Annotation, verb: str, text: str) -> None:
    principal = call.principal
    events.record(
        connection,
        f"ANNOTATION.{verb}",
        text,
        account_id=principal.account.id,
        domain_id=principal.domain.id,
        user_id=principal.user.id,
        resource_type="Annotation",
        resource_uuid=about.uuid,
        request_id=call.request_id,
    )


def _answers(connection: Connection, found: Sequence[Annotation]) -> list[AnnotationAnswer]:
    names = entity_annotations.names(connection, found)
    users = accounts.user_rows.by_ids(connection, [each.user_id for each in found])
    return [
        AnnotationAnswer(
            id=each.uuid,
            entitytype=each.entity_type,
            entityid=each.entity_uuid,
            entityname=names.get(each.entity_uuid),
            annotation=each.annotation,
            userid=users[each.user_id].uuid,
            username=users[each.user_id].username,
            adminsonly=each.admins_only,
            created=each.created,
        )
        for each in found
    ]
