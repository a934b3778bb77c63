# SPDX-License-Identifier: Apache-2.0
"""The page's files, served from a fixed table with strict security headers.

It is a table and not a directory, so there is no listing, no path traversal and no redirect.
"""

from __future__ import annotations

from importlib.resources import files

from twisted.web.http import FOUND, Request
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


_HSTS = b"max-age=31536000"


class _File(Resource):
    """One file, read once at start, because it changes only with the program."""

    isLeaf = True

    def __init__(self, body: bytes, content_type: bytes, secure: bool) -> None:
        super().__init__()
        self._body = body
        self._type = content_type
        self._secure = secure

    def render_GET(self, request: Request) -> bytes:
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        if self._secure:
            request.setHeader(b"Strict-Transport-Security", _HSTS)
        request.setHeader(b"Content-Type", self._type)
        return self._body


class PageResource(Resource):
    """The root of the daemon's site: the page at `/`, its files, and the resources that the daemon adds.

    The page's links are relative, so it works below any advertised path.
    """

    def __init__(self, *, secure: bool = False, public_root_pem: bytes = b"") -> None:
        super().__init__()
        for entry in files(__package__).joinpath("static").iterdir():
            suffix = "." + entry.name.rpartition(".")[2]
            self.putChild(entry.name.encode(), _File(entry.read_bytes(), _TYPES[suffix], secure))
        self.putChild(b"", self.children[b"index.html"])
        # the root that a browser must trust to open consoles; it is public
        self.putChild(b"public-ca.crt", _File(public_root_pem, b"application/x-x509-ca-cert", secure))

    def below(self, path: str) -> Resource:
        """Return the root of a site with the page at an advertised path (`/cloud`), or the page itself."""
        found: Resource = self
        for segment in reversed(path.split("/")[1:]):
            above = Resource()
            above.putChild(segment.encode(), found)
            found = above
        return found

    def render_GET(self, request: Request) -> bytes:
        """Redirect the advertised path without its slash, where relative links would be wrong."""
        request.setResponseCode(FOUND)
        request.setHeader(b"Location", request.path.rpartition(b"/")[2] + b"/")
        return b""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return NoResource()
