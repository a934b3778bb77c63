# SPDX-License-Identifier: Apache-2.0
"""Reads the parameters of an HTTP request in the one way in which they were signed.

CloudStack signs names as they are and encodes only values (ApiServer.verifyRequest), so a name that
contains `&` or `=` is signed like several parameters. Clients depend on that text, so such a name is
rejected. A name that occurs twice, whatever its case, is rejected, too: one reader could use the first
value and another the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from systemvm.management.api.errors import ApiError, ErrorCode

MAX_PARAMETERS = 200
MAX_NAME_LENGTH = 255

#: The characters of CloudStack's own names, for example `details[0].key`, `ctxUserId`, `_`.
_NAME = re.compile(rb"[A-Za-z0-9_.\-\[\]]+")


def read_parameters(arguments: Mapping[bytes, Sequence[bytes]]) -> dict[str, str]:
    """Return names and values as text.

    `arguments` has the decoded values of each decoded name, from query and body.

    Raises: ApiError 430 that names the parameter that cannot be used.
    """
    if len(arguments) > MAX_PARAMETERS:
        raise _malformed(f"request has too many parameters: the maximum is {MAX_PARAMETERS}")
    parameters: dict[str, str] = {}
    names_in_lower_case: set[str] = set()
    for name, values in arguments.items():
        label = _printable(name)
        if len(name) > MAX_NAME_LENGTH:
            raise _malformed(
                f"name of parameter {label} is too long: the maximum is {MAX_NAME_LENGTH} characters",
                parameter=label,
            )
        if not _NAME.fullmatch(name):
            raise _malformed(
                f"name of parameter {label} has an invalid character",
                "use letters, digits and . _ - [ ] only",
                parameter=label,
            )
        text = name.decode("ascii")
        if len(values) != 1 or text.lower() in names_in_lower_case:
            raise _malformed(
                f"parameter {label} is given more than once",
                "send each parameter once, in the query or in the body; the case of names does not matter",
                parameter=label,
            )
        names_in_lower_case.add(text.lower())
        try:
            parameters[text] = values[0].decode()
        except UnicodeDecodeError:
            raise _malformed(f"parameter {label} is not UTF-8", parameter=label) from None
    return parameters


def _printable(name: bytes) -> str:
    text = name[:64].decode("utf-8", "replace")
    return text if text.isprintable() else repr(text)


def _malformed(text: str, hint: str = "", *, parameter: str = "") -> ApiError:
    return ApiError(ErrorCode.MALFORMED_PARAMETER, text, hint, parameter=parameter)
