# SPDX-License-Identifier: Apache-2.0
"""The address under which browsers know this console, and what they may say of it in Host and Origin."""

from __future__ import annotations

from urllib.parse import urlsplit

from attrs import frozen

_HTTPS_PORT = 443


@frozen
class Origin:
    """An advertised https origin; `host` is lower case, an IPv6 address without brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Of `https://host[:port]`; ValueError for anything more or less."""
        parts = urlsplit(text)
        if parts.scheme.lower() != "https" or parts.path or parts.query or parts.fragment:
            raise ValueError("an origin is https://host or https://host:port, without a path")
        if "@" in parts.netloc or not parts.hostname:
            raise ValueError("an origin names a host and no user")
        port = parts.port if parts.port is not None else _HTTPS_PORT
        return cls(host=parts.hostname.lower(), port=port)

    @property
    def authority(self) -> str:
        """As a browser writes it in Host: the usual port left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _HTTPS_PORT else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        return f"https://{self.authority}"

    @property
    def websocket(self) -> str:
        return f"wss://{self.authority}"

    def is_host(self, headers: list[str]) -> bool:
        """Whether the Host headers are one, and name this origin; a Host teaches us nothing."""
        return len(headers) == 1 and self.is_origin([f"https://{headers[0]}"])

    def is_origin(self, headers: list[str]) -> bool:
        if len(headers) != 1:
            return False
        try:
            return Origin.parse(headers[0]) == self
        except ValueError:
            return False
