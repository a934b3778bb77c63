# SPDX-License-Identifier: Apache-2.0
"""Host and Origin against the advertised address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm.origin import Origin


@pytest.mark.parametrize(
    ("text", "canonical", "authority"),
    [
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443", "127.0.0.1:8443"),
        ("https://Console.Example:443", "https://console.example", "console.example"),
        ("HTTPS://console.example", "https://console.example", "console.example"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
    ],
)
def test_forms(text: str, canonical: str, authority: str) -> None:
    origin = Origin.parse(text)
    assert (origin.text, origin.authority) == (canonical, authority)
    assert origin.websocket == canonical.replace("https", "wss")
    assert origin.is_origin([canonical])
    assert origin.is_host([authority])
    assert origin.is_host([authority.upper()])


@pytest.mark.parametrize(
    "text",
    ["", "null", "http://a", "https://", "https://a/", "https://a/b", "https://a?b", "https://u@a", "https://a:x",
     "https://a:99999", "wss://a", "//a", "a"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        Origin.parse(text)


@pytest.mark.parametrize(
    "headers",
    [[], ["https://a:8443", "https://a:8443"], ["https://a"], ["http://a:8443"], ["https://a:8443.evil.example"],
     ["https://a:8443, https://a:8443"], ["https://evil.example"], ["null"], [""], ["https://a:8443/"]],
)  # fmt: skip
def test_other_origins(headers: list[str]) -> None:
    assert not Origin.parse("https://a:8443").is_origin(headers)


@given(st.text(max_size=40))
def test_no_text_crashes_it(text: str) -> None:
    origin = Origin.parse("https://a:8443")
    assert origin.is_origin([text]) in (True, False)
    assert origin.is_host([text]) in (True, False)
