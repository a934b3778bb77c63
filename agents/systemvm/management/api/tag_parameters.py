# SPDX-License-Identifier: Apache-2.0
"""`tags` of lists and of commands that create something."""

from __future__ import annotations

from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import Arguments, ParameterType, optional
from systemvm.management.state.tags import Wanted

#: As in CloudStack, one of several is enough.
TAGGED = optional("tags", ParameterType.TAGS, "list only those with one of these keys and values")
NEW_TAGS = optional("tags", ParameterType.TAGS, "keys and values that it gets; see createTags")


def given_tags(arguments: Arguments) -> dict[str, str]:
    """Return the tags of a call, each with its value.

    Raises: ApiError 431 for one without a value.
    """
    given: dict[str, str] = {}
    for key, value in arguments.get("tags", {}).items():
        if value is None:
            raise parameter_error("tags", f"tags: the value of {key} is missing", "send tags[0].value, too")
        given[key] = value
    return given


def wanted_tags(arguments: Arguments) -> Wanted | None:
    """Return the tags that a list is limited to; None when the call names none."""
    return frozenset(given_tags(arguments).items()) or None
