# SPDX-License-Identifier: Apache-2.0
"""The page's files, served from a fixed table with headers that leave a browser no room for surprises.

A table and not a directory: there is no listing, no traversal and no redirect to get wrong.
"""

from __future__ import annotations

from importlib.resources import files

from twisted.web.http import Request
from twisted.web.resource import NoResource, Resource

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}

_HEADERS = {
    b"Content-Security-Policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    b"X-Content-Type-Options": b"nosniff",
    b"Referrer-Policy": b"no-referrer",
    b"Cross-Origin-Opener-Policy": b"same-origin",
    b"Cache-Control": b"no-cache",
}


class _File(Resource):
    """One file, read once at start: the page is small and changes only with the program."""

    isLeaf = True

    def __init__(self, body: bytes, content_type: bytes) -> None:
        super().__init__()
        self._body = body
        self._type = content_type

    def render_GET(self, request: Request) -> bytes:
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        request.setHeader(b"Content-Type", self._type)
        return self._body


class Page(Resource):
    """The root of the daemon's site: the page at `/`, its files beside it, and what the daemon adds."""

    def __init__(self) -> None:
        super().__init__()
        for entry in files(__package__).joinpath("static").iterdir():
            suffix = "." + entry.name.rpartition(".")[2]
            self.putChild(entry.name.encode(), _File(entry.read_bytes(), _TYPES[suffix]))
        self.putChild(b"", self.children[b"index.html"])

    def getChild(self, path: bytes, request: Request) -> Resource:
        return NoResource()
