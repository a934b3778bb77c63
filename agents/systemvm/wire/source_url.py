# SPDX-License-Identifier: Apache-2.0
"""The URL of an image: the one rule by which the daemon registers it and the SSVM fetches it.

What two programs could read differently is rejected. `2130706433`, `0x7f000001`, `0177.0.0.1`, `127.1` and
their full-width spellings all become loopback in some resolver, so a host is either an address in its usual
form or a DNS name that does not end in a number. Which addresses are allowed is the SSVM's decision, because
it resolves names and sees every redirect.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import urljoin, urlsplit

import idna
from attrs import field, frozen

from systemvm.service.errors import SystemVmError
from systemvm.wire.transfer_failure import TransferFailure

#: Of a registered URL, as in CloudStack's schema (vm_template.url).
MAX_CHARACTERS = 2048
#: Servers put signed URLs into Location.
MAX_REDIRECT_CHARACTERS = 4096
USER_URL, REDIRECT = "URL", "redirect"
CHECKSUM_URL, SIGNATURE_URL, METALINK_MIRROR = "checksum URL", "signature URL", "mirror URL"
DEFAULT_PORTS = {"http": 80, "https": 443}
_FORM = "write it as https://host/path"
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_TARGET_UNSAFE = re.compile(r"[^\x21-\x7e]|[\"<>\\^`{|}]")


class SourceUrlError(SystemVmError, ValueError):
    """A URL that no image is fetched from; its code is URL_INVALID or URL_DENIED."""

    def __init__(self, message: str, hint: str, code: TransferFailure = TransferFailure.URL_INVALID) -> None:
        super().__init__(message, hint, code=code)
        self.code: TransferFailure = code

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}"


@frozen
class SourceUrl:
    """A parsed URL; `host` is a canonical address or an ASCII DNS name in lower case."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)  # path and query as they go on the wire
    path: str = field(default="/", repr=False, eq=False)
    subject: str = field(default=USER_URL, eq=False)  # its name in messages

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The address that the host is, None for a name."""
        try:
            return IPv6Address(self.host) if ":" in self.host else IPv4Address(self.host)
        except AddressValueError:
            return None

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def origin(self) -> str:
        """The part that messages and logs can show: a query can contain a signature."""
        return f"{self.scheme}://{self.authority}"

    def follow(self, location: bytes) -> SourceUrl:
        """Return the URL that a redirect from here leads to.

        Servers put raw bytes and spaces into Location, which RFC 9110 forbids and every browser accepts: such
        bytes are percent-encoded as they are, and not decoded from some character set.

        Raises: SourceUrlError when no image can be at that URL.
        """
        text = location.strip(b" \t").decode("utf-8", "surrogateescape").replace(" ", "%20")
        try:
            if not text:
                raise SourceUrlError("redirect has no target: the Location header is empty", "")
            if _CONTROL.search(text):  # urljoin would remove some of them
                raise SourceUrlError("redirect contains a control character", "")
            try:
                target = urljoin(self.text, text)
            except ValueError as error:
                raise SourceUrlError(f"redirect cannot be parsed: {error}", "") from None
            return parse(target, REDIRECT, max_characters=MAX_REDIRECT_CHARACTERS)
        except SourceUrlError as error:
            hint = f"register the final URL instead; {self.origin} sends this redirect"
            raise SourceUrlError(error.message, hint, error.code) from None


def parse(text: str, subject: str = USER_URL, *, max_characters: int = MAX_CHARACTERS) -> SourceUrl:
    """Parse a URL; `subject` is its name in messages.

    Raises: SourceUrlError when the URL is too long, ambiguous, not HTTP, or has a host or port that is not
        allowed.
    """
    if len(text) > max_characters:
        raise SourceUrlError(
            f"{subject} is too long: {len(text)} characters, the maximum is {max_characters}",
            "shorten the URL",
        )
    if text != text.strip() or _UNSAFE.search(text):
        raise SourceUrlError(
            f"{subject} contains white space, a control character or a backslash",
            "percent-encode it: %20 is a space",
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise SourceUrlError(f"{subject} cannot be parsed: {error}", _FORM) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise SourceUrlError(
            f"{subject} has an unsupported scheme: {parts.scheme[:20] or 'none'}", "use http or https"
        )
    if "@" in parts.netloc:
        raise SourceUrlError(
            f"{subject} contains a user name or password", "send them as sourceusername and sourcepassword"
        )
    if port is None:
        port = DEFAULT_PORTS[parts.scheme]
    if port == 0 or (port < 1024 and port not in DEFAULT_PORTS.values()):
        raise SourceUrlError(
            f"{subject} has a port that is not allowed: {port}",
            "use port 80, 443 or one from 1024 to 65535",
            TransferFailure.URL_DENIED,
        )
    host = parse_host(parts.hostname or "", parts.netloc.startswith("["), subject)
    path = _quote(parts.path or "/")
    target = f"{path}?{_quote(parts.query)}" if parts.query else path
    return SourceUrl(parts.scheme, host, port, target, path, subject)


def parse_host(host: str, is_bracketed: bool, subject: str) -> str:
    if not host:
        raise SourceUrlError(f"{subject} has no host", _FORM)
    if "%" in host:
        raise SourceUrlError(
            f"host of {subject} contains a percent sign", "remove the zone id or the percent-encoding"
        )
    if is_bracketed:
        try:
            return IPv6Address(host).compressed
        except AddressValueError:
            raise SourceUrlError(
                f"host of {subject} is not an IPv6 address", "write it as [2001:db8::1]"
            ) from None
    name = host
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError as error:
            raise SourceUrlError(
                f"host of {subject} is not a valid international name: {error}", "correct the host name"
            ) from None
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            if name == host:
                return str(IPv4Address(name))  # rejects octal, hexadecimal and short forms
        except AddressValueError:
            pass
        raise SourceUrlError(
            f"host of {subject} is an address in an unusual form", "write the address as four decimal numbers"
        )
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise SourceUrlError(f"host of {subject} is not a DNS name", "correct the host name")
    if name == "localhost" or name.endswith(".localhost"):
        raise SourceUrlError(
            f"host of {subject} is loopback: {name}",
            "use a host that the SSVM can reach",
            TransferFailure.URL_DENIED,
        )
    return name


def _quote(text: str) -> str:
    """Percent-encode what must not stand in a request line, and leave existing escapes unchanged."""

    def encoded(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))

    return _TARGET_UNSAFE.sub(encoded, text)
