# SPDX-License-Identifier: Apache-2.0
"""The address by which browsers reach a listener, independent of the address that it is bound to.

Every URL, certificate name, Origin and Host check, WebSocket address and content policy uses it, and never
the headers of a request.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from attrs import evolve, frozen

_DEFAULT_PORT = {"https": 443, "http": 80}
#: Stands for a system VM's public address: as the whole host, or as the first label of a domain (CloudStack's
#: `consoleproxy.url.domain` = `*.console.example.test`).
WILDCARD = "*"


def _label_of(address: IPv4Address | IPv6Address) -> str:
    """Return an address as a label of a name: of IPv6 all eight groups, 2001-db8-1-0-0-0-0-101.

    `::` would become dashes at an end of a label or as its third and fourth character (RFC 5891, 4.2.3.1).
    """
    if isinstance(address, IPv4Address):
        return str(address).replace(".", "-")
    return "-".join(f"{int(group, 16):x}" for group in address.exploded.split(":"))


@frozen
class PublicEndpoint:
    """An advertised scheme, host, port and path; `host` is lower case, an IPv6 address without brackets.

    `path` is empty, or begins with a slash and ends without one.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> PublicEndpoint:
        """Parse `https://host[:port][/path]`.

        Raises: ValueError when the text is anything else.
        """
        parts = urlsplit(text)
        scheme = parts.scheme.lower()
        if scheme not in _DEFAULT_PORT or parts.query or parts.fragment:
            raise ValueError(f"{text!r} is not https://HOST[:PORT][/PATH]")
        if "@" in parts.netloc or not parts.hostname:
            raise ValueError(f"{text!r} must contain a host and no user")
        path = parts.path.rstrip("/")
        if not all(
            segment and segment.isprintable() and segment not in (".", "..")
            for segment in path.split("/")[1:]
        ):
            raise ValueError(f"path of {text!r} must not have empty or dotted parts")
        port = parts.port if parts.port is not None else _DEFAULT_PORT[scheme]
        host = parts.hostname.lower()
        if WILDCARD in host.removeprefix("*.") and host != WILDCARD:
            raise ValueError(f"the star in {text!r} must be the host or the first label of its domain")
        return cls(scheme, host, port, path)

    def at(self, address: IPv4Address | IPv6Address) -> PublicEndpoint:
        """Return the endpoint of one system VM: the star becomes its address, with dashes in a domain."""
        if self.host == WILDCARD:
            return evolve(self, host=str(address))
        if self.is_wildcard:
            return evolve(self, host=f"{_label_of(address)}.{self.host[2:]}")
        return self

    @property
    def is_wildcard(self) -> bool:
        return self.host.startswith(WILDCARD)

    @property
    def is_ipv6(self) -> bool:
        """Whether its host is an address of IPv6, which a content policy cannot name."""
        return ":" in self.host

    @property
    def authority(self) -> str:
        """The value of a browser's Host header, without the default port."""
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The value of a browser's Origin header, without a path."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """The whole URL, without a slash at the end."""
        return self.origin + self.path

    @property
    def websocket_sources(self) -> list[str]:
        """The sources of a content policy for WebSockets to this endpoint, beside `'self'`.

        A content policy cannot name an address of IPv6 (CSP 3, 2.3.1): browsers report one as an error.
        They take `'self'` for WebSockets, too.
        """
        if self.is_ipv6:
            return []
        return [f"{'wss' if self.scheme == 'https' else 'ws'}://{self.authority}"]

    def route(self, path: str) -> str | None:
        """Return a request's path below the advertised path; None when it is outside."""
        if path != self.path and not path.startswith(f"{self.path}/"):
            return None
        return path[len(self.path) :] or "/"

    def is_host(self, headers: list[str]) -> bool:
        """Return whether there is exactly one Host header, and it is this endpoint's."""
        return len(headers) == 1 and self.is_origin([f"{self.scheme}://{headers[0]}"])

    def is_origin(self, headers: list[str]) -> bool:
        """Return whether there is exactly one Origin header, and it is this endpoint's."""
        if len(headers) != 1:
            return False
        if headers[0] == self.origin:  # as browsers send it
            return True
        try:
            given = PublicEndpoint.parse(headers[0])
        except ValueError:
            return False
        same = (given.scheme, given.host, given.port) == (self.scheme, self.host, self.port)
        return same and not headers[0].partition("//")[2].count("/")
