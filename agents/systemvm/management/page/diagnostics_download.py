# SPDX-License-Identifier: Apache-2.0
"""`/diagnostics/TOKEN/NAME.zip`: the zips of getDiagnosticsData, for anyone who has the URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request
from twisted.web.static import File

#: Finds a zip by token and file name. The token cannot be guessed; who has it can read the zip.
Find = Callable[[str, str], Path | None]


class DiagnosticsResource(Resource):
    """Serves zips by their exact path; there is no listing."""

    def __init__(self, find: Find) -> None:
        super().__init__()
        self._find = find

    def getChild(self, path: bytes, request: Request) -> IResource:
        rest: list[bytes] = request.postpath or []
        if len(rest) != 1:
            return notFound()
        found = self._find(path.decode("latin-1"), rest[0].decode("latin-1"))
        if found is None:
            return notFound()
        request.postpath = []
        request.setHeader(b"Content-Disposition", f'attachment; filename="{found.name}"'.encode())
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        request.setHeader(b"Cache-Control", b"no-store")
        answer = File(str(found), defaultType="application/zip")
        answer.isLeaf = True
        return answer
