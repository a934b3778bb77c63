# SPDX-License-Identifier: Apache-2.0
"""How a source is reached besides by its URL: the zone's proxy, the login, and the keys of its publisher."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from attrs import evolve, field, frozen

from systemvm.wire import source_url
from systemvm.wire.source_url import SourceUrlError

#: Of CloudStack's `secstorage.proxy`.
DEFAULT_PROXY_PORT = 3128
_FORM = "write it as http://user:password@host:3128"


@frozen
class SourceCredentials:
    """The login of HTTP Basic authentication (RFC 7617)."""

    username: str
    password: str = field(default="", repr=False)


@frozen
class SourceProxy:
    """An HTTP proxy that opens tunnels (RFC 9110, 9.3.6); `host` is as in `SourceUrl`."""

    host: str
    port: int = DEFAULT_PROXY_PORT
    credentials: SourceCredentials | None = None

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@frozen
class SourceAccess:
    """All of it for one download; the defaults are a public URL that is reached directly."""

    proxy: SourceProxy | None = None
    credentials: SourceCredentials | None = None
    signature_url: str | None = field(default=None, repr=False)  # of the checksum file
    trusted_keys: str | None = field(default=None, repr=False)  # armored OpenPGP certificates of publishers


def parse_proxy(text: str) -> SourceProxy:
    """Parse the URL of a proxy, or `host:port`.

    Raises: SourceUrlError when it is not an http URL of a host and a port.

    >>> parse_proxy("http://u:p%40@proxy.example.test").authority
    'proxy.example.test:3128'
    """
    full = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(full)
        port = parts.port or DEFAULT_PROXY_PORT
    except ValueError as error:
        raise SourceUrlError(f"proxy cannot be parsed: {error}", _FORM) from None
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SourceUrlError("proxy is not an http URL of a host and a port", _FORM)
    host = source_url.parse_host(
        parts.hostname or "", parts.netloc.rpartition("@")[2].startswith("["), "proxy"
    )
    proxy = SourceProxy(host, port)
    if parts.username is None:
        return proxy
    login = SourceCredentials(unquote(parts.username), unquote(parts.password or ""))
    require_login(login)
    return evolve(proxy, credentials=login)


def require_login(login: SourceCredentials) -> None:
    """Check that the login fits into a header (RFC 7617, 2).

    Raises: SourceUrlError when it does not.
    """
    if ":" in login.username:
        raise SourceUrlError("user name contains a colon", "use a user name without a colon")
    for what, value in (("user name", login.username), ("password", login.password)):
        if any(character < " " or character == "\x7f" for character in value):
            raise SourceUrlError(f"{what} contains a control character", f"correct the {what}")
