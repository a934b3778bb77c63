# SPDX-License-Identifier: Apache-2.0
"""Links to consoles, cookies, and names that are safe to write to a terminal."""

from __future__ import annotations

import pytest

from systemvm.cli.console_client.session import ClientSession, ConsoleLink, cookie_of, plain


@pytest.mark.parametrize(
    ("url", "origin", "host", "port", "base"),
    [
        (
            "https://c.example.test/console?cmd=auth&token=T",
            "https://c.example.test",
            "c.example.test",
            443,
            "",
        ),
        ("https://127.0.0.1:8443/console?token=T", "https://127.0.0.1:8443", "127.0.0.1", 8443, ""),
        ("https://[::1]:1/a/console?token=T", "https://[::1]:1", "::1", 1, "/a"),
    ],
)
def test_a_link_is_taken_apart(url: str, origin: str, host: str, port: int, base: str) -> None:
    assert ConsoleLink.parse(url) == ConsoleLink(origin, host, port, base, "T")


def test_the_additional_secret_is_taken_and_nothing_secret_is_shown() -> None:
    link = ConsoleLink.parse("https://c.example.test/console?token=T0&extra=a%20b")
    assert link.extra == "a b"
    assert "T0" not in repr(link)
    session = ClientSession(link, None, "s-1", "web", "secret")
    assert "secret" not in repr(session)
    assert session.websocket_path == "/websockify?session=s-1"


@pytest.mark.parametrize(
    "url", ["", "https://c.example.test/console", "ftp://c/console?token=T", "/console?token=T"]
)
def test_anything_else_is_no_link(url: str) -> None:
    with pytest.raises(ValueError, match="link"):
        ConsoleLink.parse(url)


def test_the_cookie_of_the_session_is_kept_and_those_that_end_are_not() -> None:
    ended = "__Host-console-old=; Max-Age=0; Path=/"
    kept = "__Host-console-new=S; Max-Age=600; Path=/; Secure"
    assert cookie_of([ended, kept]) == "__Host-console-new=S"
    assert cookie_of([ended]) is None


def test_a_policy_that_is_not_known_permits() -> None:
    session = ClientSession(
        ConsoleLink("https://c", "c", 443, "", "T"), None, "s", "web", "c", {"view_only": True}
    )
    assert session.is_view_only
    assert session.may("clipboard_to_guest")


def test_what_a_proxy_says_cannot_control_the_terminal() -> None:
    assert plain("a\x1b[2Jb\nc\u202e") == "a [2Jb c"
