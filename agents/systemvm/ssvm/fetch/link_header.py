# SPDX-License-Identifier: Apache-2.0
"""Mirrors that a server names in its response (RFC 6249): `Link: <URL>; rel=duplicate; pri=1`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from systemvm.wire import source_url
from systemvm.wire.source_url import METALINK_MIRROR, SourceUrl, SourceUrlError

MAX_LINKS = 16
_MAX_CHARACTERS = 32 * 1024
_LAST_PRIORITY = 999_999
_LINK = re.compile(r"<([^<>]*)>([^,<]*)")
_PARAMETER = re.compile(r';\s*([A-Za-z*]+)\s*=\s*(?:"([^"]*)"|([^\s;"]+))')


def duplicates(headers: Mapping[str, Sequence[str]]) -> tuple[SourceUrl, ...]:
    """Return the mirrors of a response, in their order; `headers` have names in lower case.

    >>> [url.host for url in duplicates({"link": ["<http://a.test/x>; rel=duplicate; pri=1"]})]
    ['a.test']
    """
    found: list[tuple[int, int, SourceUrl]] = []
    for value in headers.get("link", ()):
        for match in _LINK.finditer(value[:_MAX_CHARACTERS]):
            if len(found) >= MAX_LINKS:
                break
            parameters = {
                name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(match[2])
            }
            if parameters.get("rel", "").lower() != "duplicate":
                continue
            try:
                mirror = source_url.parse(match[1].strip(), METALINK_MIRROR)
            except SourceUrlError:
                continue
            priority = parameters.get("pri", "")
            known = priority.isascii() and priority.isdigit() and len(priority) < 7
            found.append((int(priority) if known else _LAST_PRIORITY, len(found), mirror))
    return tuple(dict.fromkeys(mirror for _, _, mirror in sorted(found, key=lambda each: each[:2])))
