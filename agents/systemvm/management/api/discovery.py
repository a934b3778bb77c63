# SPDX-License-Identifier: Apache-2.0
"""`listApis`: a description of the table of commands."""

from __future__ import annotations

import types
import typing
from datetime import datetime
from typing import Any

import attrs

from systemvm.management.api.answers.access import ApiAnswer, ApiFieldAnswer, ApiParameterAnswer
from systemvm.management.api.command import ApiCall, Command, CommandTable, ResponseShape, paged
from systemvm.management.api.parameters import MAX_TEXT_LENGTH, ParameterType, optional

_TYPE_NAMES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "double",
    datetime: "date",
    dict: "map",
    list: "list",
}
_JOB_ID = ApiFieldAnswer(name="jobid", description="UUID of the job", type="string")


def name_only(command: Command) -> ApiAnswer:
    """Return what a client needs to offer the command, in a fiftieth of the bytes."""
    return ApiAnswer(
        name=command.name,
        description=command.description,
        isasync=command.is_async,
        related="",
        params=[],
        response=[],
    )


def describe(command: Command) -> ApiAnswer:
    fields = describe_fields(command.answer)
    return ApiAnswer(
        name=command.name,
        description=command.description,
        isasync=command.is_async,
        related=",".join(command.related),
        params=[
            ApiParameterAnswer(
                name=parameter.name,
                description=parameter.description,
                type=parameter.type.api_name,
                length=MAX_TEXT_LENGTH,
                required=parameter.required,
            )
            for parameter in command.all_parameters
        ],
        response=[_JOB_ID, *fields] if command.shape is ResponseShape.ASYNC else fields,
    )


def describe_fields(answer: type) -> list[ApiFieldAnswer]:
    hints = typing.get_type_hints(answer)
    return [_describe_field(attribute, hints[attribute.name]) for attribute in attrs.fields(answer)]


def _describe_field(attribute: Any, hint: Any) -> ApiFieldAnswer:
    kind, _ = _kind(hint)
    inner = object_of(hint)
    return ApiFieldAnswer(
        name=attribute.metadata.get("key", attribute.name),
        description=attribute.metadata.get("description", ""),
        type=_TYPE_NAMES.get(kind, "object"),
        response=None if inner is None or inner is ApiFieldAnswer else describe_fields(inner),
    )


def object_of(hint: Any) -> type | None:
    """Return the class of the object, or of the list's objects, that a key has; None for a plain value."""
    _, inner = _kind(hint)
    return inner if attrs.has(inner) else None


def _kind(hint: Any) -> tuple[Any, Any]:
    """Return the outer and the inner type: `list[NicAnswer] | None` is (list, NicAnswer)."""
    if isinstance(hint, types.UnionType):
        [hint] = [option for option in typing.get_args(hint) if option is not types.NoneType]
    origin = typing.get_origin(hint)
    if origin is list:
        return list, typing.get_args(hint)[0]
    return (origin or hint), hint


def discovery_command(table: CommandTable) -> Command:
    """Return the command that lists all commands that its caller is allowed to use."""

    @paged
    async def list_apis(call: ApiCall) -> list[ApiAnswer]:
        wanted = call.arguments.text("name")
        if wanted is not None:
            table.find(wanted)
        shown = name_only if call.arguments.flag("namesonly") else describe
        return [
            shown(command)
            for command in table
            if call.principal.can_call(command.name, command.roles) and wanted in (None, command.name)
        ]

    return Command(
        "listApis",
        list_apis,
        "Lists the commands of this API that the caller is allowed to use.",
        ApiAnswer,
        "api",
        ResponseShape.LIST,
        (
            optional("name", ParameterType.STRING, "list only the command with this name"),
            optional(
                "namesonly",
                ParameterType.BOOLEAN,
                "true: leave out parameters and keys of answers, which are most of the list; an addition",
            ),
        ),
    )
