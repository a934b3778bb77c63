# SPDX-License-Identifier: Apache-2.0
"""The page's files, served from a fixed table with strict security headers.

It is a table and not a directory, so there is no listing, no path traversal and no redirect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.http import FOUND, Request
from twisted.web.resource import NoResource, Resource
from twisted.web.server import NOT_DONE_YET

from systemvm import web

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}

#: Of stock xterm.js, below its directory.
_XTERM_FILES = ("lib/xterm.mjs", "css/xterm.css")

#: Lists the origins besides its own that the page connects to.
ListOrigins = Callable[[], Awaitable[Iterable[str]]]

_HEADERS = {
    b"X-Content-Type-Options": b"nosniff",
    b"Referrer-Policy": b"no-referrer",
    b"Cross-Origin-Opener-Policy": b"same-origin",
    b"Cache-Control": b"no-cache",
}


_HSTS = b"max-age=31536000"


def content_policy(*origins: str) -> bytes:
    """Return the content policy of a page that connects to its own origin and to `origins`."""
    connect = " ".join(("'self'", *origins))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src {connect}; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ).encode("ascii")


class _File(Resource):
    """One file, read once at start, because it changes only with the program."""

    isLeaf = True

    def __init__(self, body: bytes, content_type: bytes, secure: bool) -> None:
        super().__init__()
        self._body = body
        self._type = content_type
        self._secure = secure

    def render_GET(self, request: Request) -> bytes | int:
        return self._respond(request, content_policy())

    def _respond(self, request: Request, policy: bytes) -> bytes:
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        request.setHeader(b"Content-Security-Policy", policy)
        if self._secure:
            request.setHeader(b"Strict-Transport-Security", _HSTS)
        request.setHeader(b"Content-Type", self._type)
        return self._body


class _PublicRoot(_File):
    """The root of consoles, which can be another one after a change of the zones."""

    def __init__(self, root_pem: Callable[[], bytes], secure: bool) -> None:
        super().__init__(b"", b"application/x-x509-ca-cert", secure)
        self._root_pem = root_pem

    def render_GET(self, request: Request) -> bytes | int:
        self._body = self._root_pem()
        return super().render_GET(request)


class _Document(_File):
    """The page itself, whose policy follows the addresses of SSVMs."""

    _log = Logger()

    def __init__(self, body: bytes, content_type: bytes, secure: bool, list_origins: ListOrigins) -> None:
        super().__init__(body, content_type, secure)
        self._list_origins = list_origins

    def render_GET(self, request: Request) -> bytes | int:
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)
        responded = Deferred.fromCoroutine(self._origins())
        responded.addCallback(
            lambda origins: self._finish(request, content_policy(*origins)) if not gone else None
        )
        responded.addErrback(lambda failure: self._log.failure("cannot serve the page", failure=failure))
        return NOT_DONE_YET

    async def _origins(self) -> list[str]:
        try:
            return list(await self._list_origins())
        except Exception:
            # everything but uploads works without them
            self._log.failure("cannot list the origins of secondary storage VMs")
            return []

    def _finish(self, request: Request, policy: bytes) -> None:
        body = self._respond(request, policy)
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body)
        request.finish()


async def _no_origins() -> list[str]:
    return []


class PageResource(Resource):
    """The root of the daemon's site: the page at `/`, its files, and the resources that the daemon adds.

    The page's links are relative, so it works below any advertised path.
    """

    def __init__(
        self,
        *,
        secure: bool = False,
        public_root_pem: Callable[[], bytes] = bytes,
        list_origins: ListOrigins = _no_origins,
        xterm: Path | None = None,
    ) -> None:
        """`xterm` is the directory of stock xterm.js; without it no recording of a serial port is shown."""
        super().__init__()
        stock = [] if xterm is None else [xterm / name for name in _XTERM_FILES]
        own = files(__package__).joinpath("static").iterdir()
        shared = files(web).joinpath("static").iterdir()  # with the console's page
        for entry in (*own, *shared, *(path for path in stock if path.is_file())):
            suffix = "." + entry.name.rpartition(".")[2]
            body, content_type = entry.read_bytes(), _TYPES[suffix]
            file = _File(body, content_type, secure)
            if suffix == ".html":
                file = _Document(body, content_type, secure, list_origins)
            self.putChild(entry.name.encode(), file)
        self.putChild(b"", self.children[b"index.html"])
        # what a browser must trust to open consoles, the present root first; it is public
        self.putChild(b"public-ca.crt", _PublicRoot(public_root_pem, secure))

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
