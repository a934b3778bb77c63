# SPDX-License-Identifier: Apache-2.0
"""listOsTypes, listOsCategories: tables that are the same in every installation."""

from __future__ import annotations

from systemvm.management.api.answers.os_types import OsCategoryAnswer, OsTypeAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.os_types import CATEGORIES, OS_TYPES


def os_type_commands() -> tuple[Command, ...]:
    text, identity = ParameterType.STRING, ParameterType.UUID
    return (
        Command(
            "listOsTypes",
            paged(_types),
            "Lists guest operating systems.",
            OsTypeAnswer,
            "ostype",
            ResponseShape.LIST,
            (
                optional("id", identity, "list only the one with this id"),
                optional("oscategoryid", identity, "list only those of this category"),
                optional("description", text, "list only the one with this name"),
            ),
            related=("listOsCategories", "registerTemplate", "registerIso"),
        ),
        Command(
            "listOsCategories",
            paged(_categories),
            "Lists categories of operating systems.",
            OsCategoryAnswer,
            "oscategory",
            ResponseShape.LIST,
            (
                optional("id", identity, "list only the one with this id"),
                optional("name", text, "list only the one with this name"),
            ),
            related=("listOsTypes",),
        ),
    )


async def _types(call: ApiCall) -> list[OsTypeAnswer]:
    arguments = call.arguments
    return [
        OsTypeAnswer(
            id=one.id,
            name=one.name,
            description=one.name,
            oscategoryid=one.category.id,
            oscategoryname=one.category.name,
            isuserdefined=False,
        )
        for one in OS_TYPES
        if arguments.get("id", one.id) == one.id
        and arguments.get("oscategoryid", one.category.id) == one.category.id
        and arguments.get("description", one.name) == one.name
        and matches_keyword(arguments, one.name)
    ]


async def _categories(call: ApiCall) -> list[OsCategoryAnswer]:
    arguments = call.arguments
    return [
        OsCategoryAnswer(id=one.id, name=one.name)
        for one in CATEGORIES
        if arguments.get("id", one.id) == one.id
        and arguments.get("name", one.name) == one.name
        and matches_keyword(arguments, one.name)
    ]
