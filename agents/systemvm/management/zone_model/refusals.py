# SPDX-License-Identifier: Apache-2.0
"""Why a change of a zone's model is refused: the parameter, the reason, and what would be accepted."""

from __future__ import annotations

from collections.abc import Iterable

from systemvm.host.guest_services import is_domain
from systemvm.service.errors import FailureCode, SystemVmError

MAX_NAME_LENGTH = 255
#: How many of many names a message has.
_NAMED = 5


class ModelError(SystemVmError):
    """A change of the model that cannot be made; `parameter` is the one whose value is refused."""

    code = FailureCode.INVALID


def invalid(parameter: str, why: str, hint: str) -> ModelError:
    """Return the refusal of a value."""
    return ModelError(f"{parameter}: {why}", hint, parameter=parameter)


def in_use(what: str, why: str, hint: str) -> ModelError:
    """Return the refusal to change or delete an object that others depend on."""
    return ModelError(f"{what} is in use: {why}", hint, code=FailureCode.IN_USE)


def wrong_state(what: str, why: str, hint: str) -> ModelError:
    return ModelError(f"{what}: {why}", hint, code=FailureCode.WRONG_STATE)


def named(noun: str, names: Iterable[str]) -> str:
    """Return `2 pods: one, two`, of many only the first.

    >>> named("pod", ["one", "two"])
    '2 pods: one, two'
    """
    found = list(names)
    first = ", ".join(found[:_NAMED])
    more = ", …" if len(found) > _NAMED else ""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{len(found)} {noun if len(found) == 1 else plural}: {first}{more}"


def check_domain(parameter: str, domain: str) -> str:
    """Return a domain. Raises: ModelError when machines' names cannot be in it."""
    if not is_domain(domain):
        raise invalid(parameter, f"{domain[:64]!r} is not a domain", "write it as guests.example.test")
    return domain


def check_name(parameter: str, name: str, others: Iterable[str]) -> str:
    """Return a name without blanks around it.

    Raises: ModelError when it is empty, too long, or one of the others has it.
    """
    wanted = name.strip()
    if not wanted:
        raise invalid(parameter, "must not be blank", f"send 1 to {MAX_NAME_LENGTH} characters")
    if len(wanted) > MAX_NAME_LENGTH:
        why = f"is too long: {len(wanted)} characters, the maximum is {MAX_NAME_LENGTH}"
        raise invalid(parameter, why, "shorten it")
    if any(wanted.lower() == other.lower() for other in others):
        raise invalid(parameter, f"{wanted} is the name of another one", "choose another name")
    return wanted
