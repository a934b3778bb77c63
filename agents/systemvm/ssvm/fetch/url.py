# SPDX-License-Identifier: Apache-2.0
"""Reading the URL of an image, strictly: what two programs could read differently is refused.

`2130706433`, `0x7f000001`, `0177.0.0.1`, `127.1` and their full-width spellings all become loopback in some
resolver, so a host is either an address in its usual form or a DNS name that does not end in a number.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import urljoin, urlsplit

import idna
from attrs import field, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import Address
from systemvm.wire.transfer_failure import TransferFailure

MAX_URL_CHARACTERS = 4096
USER_URL, REDIRECT = "the URL", "the redirect"
DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN_ADDRESS = "write an address as four decimal numbers"
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TARGET_UNSAFE = re.compile(r"[^\x21-\x7e]|[\"<>\\^`{|}]")


@frozen
class ImageUrl:
    """A URL that has been read; `host` is a canonical address or an ASCII DNS name in lower case."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)  # path and query as they go on the wire
    subject: str = field(default=USER_URL, eq=False)  # what errors call it

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def address(self) -> Address | None:
        """The address that the host is, None for a name."""
        try:
            return IPv6Address(self.host) if ":" in self.host else IPv4Address(self.host)
        except AddressValueError:
            return None

    @property
    def authority(self) -> str:
        """The Host header's value."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def origin(self) -> str:
        """The part that messages and logs may show: a query can hold a signature."""
        return f"{self.scheme}://{self.authority}"

    def follow(self, location: bytes) -> ImageUrl:
        """Where a redirect from here leads; TransferError when that is nowhere an image can be.

        Servers put raw bytes and blanks into Location, which RFC 9110 forbids and every browser takes: such
        bytes are percent-encoded as they are, and not read as text of some character set.
        """
        text = location.strip(b" \t").decode("utf-8", "surrogateescape").replace(" ", "%20")
        try:
            if not text:
                raise _invalid("the redirect names no target (Location)")
            if _CONTROL.search(text):  # urljoin would leave some of them out
                raise _invalid("the redirect holds a control character")
            try:
                target = urljoin(self.text, text)
            except ValueError as error:
                raise _invalid(f"the redirect cannot be read: {error}") from None
            return parse(target, REDIRECT)
        except TransferError as error:
            hint = f"{self.origin} sends it; register the address that it should lead to"
            raise TransferError(error.code, error.message, hint) from None


def parse(text: str, subject: str = USER_URL) -> ImageUrl:
    """Read a URL; TransferError says what is wrong with it. `subject` is what messages call it."""
    if len(text) > MAX_URL_CHARACTERS:
        raise _invalid(f"{subject} is too long: {len(text)} characters, the maximum is {MAX_URL_CHARACTERS}")
    if text != text.strip() or re.search(r"[\x00-\x20\x7f\\]", text):
        raise _invalid(f"{subject} holds white space, a control character or a backslash")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _invalid(f"{subject} cannot be read: {error}") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise _invalid(
            f"{subject}'s scheme is {parts.scheme[:20] or 'missing'}", "only http and https are supported"
        )
    if "@" in parts.netloc:
        raise _invalid(f"{subject} holds a user name or password", "use a signed URL or one that needs none")
    if parts.netloc.endswith(":"):
        port = DEFAULT_PORTS[parts.scheme]
    if port is None:
        port = DEFAULT_PORTS[parts.scheme]
    if port == 0 or (port < 1024 and port not in DEFAULT_PORTS.values()):
        raise TransferError(
            TransferFailure.URL_DENIED,
            f"{subject} leads to port {port}, which belongs to another service",
            "use 80, 443 or a port from 1024 up",
        )
    bracketed = parts.netloc.startswith("[")
    host = _read_host(parts.hostname or "", bracketed, subject)
    path = _quote(parts.path or "/")
    target = f"{path}?{_quote(parts.query)}" if parts.query else path
    return ImageUrl(parts.scheme, host, port, target, subject)


def _read_host(host: str, bracketed: bool, subject: str) -> str:
    if not host:
        raise _invalid(f"{subject} has no host")
    if "%" in host:
        raise _invalid(f"{subject}'s host holds a percent sign", "zone ids and encoded hosts are refused")
    if bracketed:
        try:
            return IPv6Address(host).compressed
        except AddressValueError:
            raise _invalid(f"{subject}'s host is no IPv6 address") from None
    name = host
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError as error:
            raise _invalid(f"{subject}'s host is no valid international name: {error}") from None
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        if name != host:
            raise _invalid(
                f"{subject}'s host is an address in disguise", "write the address as four decimal numbers"
            )
        try:
            return str(IPv4Address(name))  # refuses octal, hexadecimal and short forms
        except AddressValueError:
            raise _invalid(f"{subject}'s host is an address in an unusual form", _PLAIN_ADDRESS) from None
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _invalid(f"{subject}'s host is no DNS name")
    if name == "localhost" or name.endswith(".localhost"):
        raise TransferError(
            TransferFailure.URL_DENIED, f"{subject} leads to loopback", "an SSVM fetches from other hosts"
        )
    return name


def _quote(text: str) -> str:
    """Percent-encode what must not stand in a request line, and leave existing escapes alone."""

    def encoded(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))

    return _TARGET_UNSAFE.sub(encoded, text)


def _invalid(message: str, hint: str = "") -> TransferError:
    return TransferError(TransferFailure.URL_INVALID, message, hint)
