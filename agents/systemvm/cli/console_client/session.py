# SPDX-License-Identifier: Apache-2.0
"""A console's session: made from a link by spending its token, as the console's page does."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from attrs import define, field, frozen

from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import scaled_s

_ANSWER_S = 60.0
_MAX_ANSWER_BYTES = 64 * 1024
_CONSOLE = "/console"


class ConsoleLinkRefusedError(SystemVmError):
    """A link that opens no console: what the console proxy says about it, or why it was not reached."""

    code = FailureCode.UNAVAILABLE


@frozen
class ConsoleLink:
    """The parts of a URL that createConsoleEndpoint has returned."""

    origin: str
    host: str
    port: int
    base: str  # the path in front of the console's own paths
    token: str = field(repr=False)
    extra: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> ConsoleLink:
        """Raises: ValueError when it is not a console's link."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        if parts.scheme not in ("http", "https") or not parts.hostname or "token" not in query:
            raise ValueError("not a link to a console")
        return cls(
            f"{parts.scheme}://{parts.netloc}",
            parts.hostname,
            parts.port or (443 if parts.scheme == "https" else 80),
            parts.path.removesuffix(_CONSOLE),
            query["token"][0],
            query.get("extra", [""])[0],
        )


@define
class ClientSession:
    """What a console proxy has admitted; `cookie` changes with every connection."""

    link: ConsoleLink
    trust: ssl.SSLContext | None
    session_id: str
    name: str
    cookie: str = field(repr=False)
    policy: dict[str, Any] = field(factory=dict)
    is_recorded: bool = False

    @property
    def websocket_path(self) -> str:
        return f"{self.link.base}/websockify?{urlencode({'session': self.session_id})}"

    def may(self, what: str) -> bool:
        """Return what the policy says about a direction of the clipboard; it can be an older proxy's."""
        return self.policy.get(what) is not False

    @property
    def is_view_only(self) -> bool:
        return bool(self.policy.get("view_only"))

    @classmethod
    def begin(cls, link: ConsoleLink, trust: ssl.SSLContext | None) -> ClientSession:
        """Spend the link's token.

        Raises: ConsoleLinkRefusedError; ssl.SSLCertVerificationError when its certificate is not trusted.
        """
        status, headers, body = _post(link, trust)
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
        if status != http.client.OK or not isinstance(answer, dict) or "session" not in answer:
            title = answer.get("title") if isinstance(answer, dict) else None
            why = plain(title) if title else f"{link.host}:{link.port} answers with status {status}"
            raise ConsoleLinkRefusedError(why, "run the command again for another link")
        return cls(
            link,
            trust,
            answer["session"],
            plain(answer.get("name", "")),
            cookie_of(headers) or "",
            answer.get("policy") or {},
            bool(answer.get("recorded")),
        )


def _post(link: ConsoleLink, trust: ssl.SSLContext | None) -> tuple[int, list[str], bytes]:
    timeout_s = scaled_s(_ANSWER_S)
    connection: http.client.HTTPConnection
    if trust is None:
        connection = http.client.HTTPConnection(link.host, link.port, timeout=timeout_s)
    else:
        connection = http.client.HTTPSConnection(link.host, link.port, timeout=timeout_s, context=trust)
    form = urlencode({"cmd": "auth", "token": link.token, "extra": link.extra})
    headers = {
        "Accept": "application/json",
        "Content-Type": "application/x-www-form-urlencoded",
        "Origin": link.origin,
    }
    try:
        connection.request("POST", f"{link.base}{_CONSOLE}", form, headers)
        response = connection.getresponse()
        cookies = response.headers.get_all("Set-Cookie") or []
        return response.status, cookies, response.read(_MAX_ANSWER_BYTES)
    except ssl.SSLCertVerificationError:
        raise
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise ConsoleLinkRefusedError(
            f"console proxy at {link.host}:{link.port} cannot be reached: {why}",
            'see "systemvm system-vm list" for its state',
        ) from None
    finally:
        connection.close()


def cookie_of(set_cookies: list[str]) -> str | None:
    """Return the session's cookie as a client sends it back; cookies that end are not it."""
    for line in set_cookies:
        pair, _, attributes = line.partition(";")
        if "max-age=0;" not in attributes.lower().replace(" ", ""):
            return pair.strip()
    return None


def plain(text: object) -> str:
    """Return what is safe to write to a terminal: one line of printable characters."""
    return "".join(char if char.isprintable() else " " for char in str(text)).strip()[:200]
