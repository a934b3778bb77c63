# SPDX-License-Identifier: Apache-2.0
"""The parameters of an HTTP request, read so that nobody can read them differently than they were signed.

CloudStack signs names as they are and encodes values alone (ApiServer.verifyRequest), so a name that holds
`&` or `=` is signed like several parameters. Clients depend on that text; hence such a name is refused. So is
a name that comes twice, whatever its case: one reader could take the first and another the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from systemvm.management.api.errors import ApiError, ErrorCode

MAX_PARAMETERS = 200
MAX_NAME_LENGTH = 255

#: What CloudStack's own names consist of, maps among them: `details[0].key`, `ctxUserId`, `_`.
_NAME = re.compile(rb"[A-Za-z0-9_.\-\[\]]+")


def read_parameters(arguments: Mapping[bytes, Sequence[bytes]]) -> dict[str, str]:
    """Names and values as text; ApiError 430 names the parameter that cannot be used.

    `arguments` holds the decoded values of each decoded name, of the query and of the body together.
    """
    if len(arguments) > MAX_PARAMETERS:
        raise _malformed(f"there are more than {MAX_PARAMETERS} parameters")
    parameters: dict[str, str] = {}
    names_in_lower_case: set[str] = set()
    for name, values in arguments.items():
        shown = _shown(name)
        if len(name) > MAX_NAME_LENGTH:
            raise _malformed(f"the name of parameter {shown} is longer than {MAX_NAME_LENGTH} characters")
        if not _NAME.fullmatch(name):
            raise _malformed(
                f"the name of parameter {shown} holds a character that no parameter's name has",
                "names consist of letters, digits, and . _ - [ ]",
            )
        text = name.decode("ascii")
        if len(values) != 1 or text.lower() in names_in_lower_case:
            raise _malformed(
                f"parameter {shown} is given more than once",
                "send each parameter once, in the query or in the body; case makes no difference",
            )
        names_in_lower_case.add(text.lower())
        try:
            parameters[text] = values[0].decode()
        except UnicodeDecodeError:
            raise _malformed(f"parameter {shown} is not UTF-8") from None
    return parameters


def _shown(name: bytes) -> str:
    text = name[:64].decode("utf-8", "replace")
    return text if text.isprintable() else repr(text)


def _malformed(text: str, hint: str = "") -> ApiError:
    return ApiError(ErrorCode.MALFORMED_PARAMETER, text, hint)
