# SPDX-License-Identifier: Apache-2.0
"""Which parameter of a call a refusal is about, so that a page can show it at its field.

Code below the API knows the value or the object that it refuses, and not always the name that it was sent by:
`startVirtualMachine` names a VM by `id`, and `attachVolume` by `virtualmachineid`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from systemvm.management.api.parameters import Arguments, Parameter, ParameterType
from systemvm.service.errors import FailureCode, SystemVmError

#: Kinds of errors that no other value of another parameter would prevent.
_ABOUT_AN_OBJECT = (FailureCode.NOT_FOUND, FailureCode.WRONG_STATE, FailureCode.IN_USE)


@contextmanager
def named_parameter(declared: Collection[Parameter], arguments: Arguments) -> Iterator[None]:
    """Have an error that leaves the block name the parameter that it is about."""
    try:
        yield
    except SystemVmError as error:
        error.parameter = refused_parameter(error, declared, arguments)
        raise


def refused_parameter(error: SystemVmError, declared: Collection[Parameter], arguments: Arguments) -> str:
    """Return the name of the parameter that an error is about; empty when that cannot be known.

    It is the one that the error names if the command has it, else the one that was sent with the value that
    the error names, else the one that names the object of the call.
    """
    name = error.parameter.partition("[")[0]  # of a map it can be one entry
    if any(each.name == name for each in declared):
        return error.parameter
    if error.value and (name := arguments.name_of(error.value)):
        return name
    if error.code not in _ABOUT_AN_OBJECT:
        return ""
    ids = [each.name for each in declared if each.type is ParameterType.UUID and each.name in arguments]
    return "id" if "id" in ids else ids[0] if len(ids) == 1 else ""
