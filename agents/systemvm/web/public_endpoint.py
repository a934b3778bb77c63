# SPDX-License-Identifier: Apache-2.0
"""The address under which browsers know a listener, whatever it is bound to.

Every URL, certificate name, Origin and Host check, WebSocket address and content policy comes from here, and
never from what a request says of itself.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from attrs import evolve, frozen

_USUAL_PORT = {"https": 443, "http": 80}
#: Stands for a system VM's public address: alone, or as the first label of a domain (CloudStack's
#: `consoleproxy.url.domain` = `*.console.example.test`).
WILDCARD = "*"


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
        """Of `https://host[:port][/path]`; ValueError that says what is wrong with anything else."""
        parts = urlsplit(text)
        scheme = parts.scheme.lower()
        if scheme not in _USUAL_PORT or parts.query or parts.fragment:
            raise ValueError(f"{text!r} is not https://HOST[:PORT][/PATH]")
        if "@" in parts.netloc or not parts.hostname:
            raise ValueError(f"{text!r} must name a host, and no user")
        path = parts.path.rstrip("/")
        if not all(
            segment and segment.isprintable() and segment not in (".", "..")
            for segment in path.split("/")[1:]
        ):
            raise ValueError(f"the path of {text!r} has an empty or a dotted part")
        port = parts.port if parts.port is not None else _USUAL_PORT[scheme]
        host = parts.hostname.lower()
        if WILDCARD in host.removeprefix("*.") and host != WILDCARD:
            raise ValueError(f"in {text!r} the star may only be the host, or the first label of its domain")
        return cls(scheme, host, port, path)

    def at(self, address: IPv4Address | IPv6Address) -> PublicEndpoint:
        """That of one system VM: a star is its public address, with dashes in a domain."""
        if self.host == WILDCARD:
            return evolve(self, host=str(address))
        if self.is_wildcard:
            label = str(address).replace(".", "-").replace(":", "-")
            # a label may not begin or end with a dash, as `::1` would make it
            return evolve(self, host=f"{label if label[0] != '-' else '0' + label}.{self.host[2:]}")
        return self

    @property
    def is_wildcard(self) -> bool:
        return self.host.startswith(WILDCARD)

    @property
    def authority(self) -> str:
        """As a browser writes it in Host: the usual port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _USUAL_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """As a browser writes it in Origin: without a path."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """The whole of it, without a slash at its end."""
        return self.origin + self.path

    @property
    def websocket_origin(self) -> str:
        """As a content policy names it."""
        return f"{'wss' if self.scheme == 'https' else 'ws'}://{self.authority}"

    def route(self, path: str) -> str | None:
        """A request's path below the advertised one; None when it is outside of it."""
        if path != self.path and not path.startswith(f"{self.path}/"):
            return None
        return path[len(self.path) :] or "/"

    def is_host(self, headers: list[str]) -> bool:
        """Whether the Host headers are one, and name this endpoint; a Host teaches us nothing."""
        return len(headers) == 1 and self.is_origin([f"{self.scheme}://{headers[0]}"])

    def is_origin(self, headers: list[str]) -> bool:
        """Whether the Origin headers are one, and are this endpoint's."""
        if len(headers) != 1:
            return False
        try:
            said = PublicEndpoint.parse(headers[0])
        except ValueError:
            return False
        same = (said.scheme, said.host, said.port) == (self.scheme, self.host, self.port)
        return same and not headers[0].partition("//")[2].count("/")
