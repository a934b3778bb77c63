# SPDX-License-Identifier: Apache-2.0
"""The advertised endpoint: Host and Origin checks, and the client address behind proxies."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.web.forwarded import client_address, networks
from systemvm.web.public_endpoint import PublicEndpoint


@pytest.mark.parametrize(
    ("text", "origin", "authority"),
    [
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443", "127.0.0.1:8443"),
        ("https://Console.Example:443", "https://console.example", "console.example"),
        ("HTTPS://console.example/", "https://console.example", "console.example"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
def test_valid_forms_are_parsed(text: str, origin: str, authority: str) -> None:
    endpoint = PublicEndpoint.parse(text)
    assert (endpoint.origin, endpoint.url, endpoint.authority) == (origin, origin, authority)
    # a content policy cannot name an address of IPv6
    assert endpoint.websocket_sources == ([] if "[" in origin else [origin.replace("http", "ws")])
    assert endpoint.is_origin([origin])
    assert endpoint.is_host([authority])
    assert endpoint.is_host([authority.upper()])


@pytest.mark.parametrize(
    "text",
    ["", "null", "ftp://a", "https://", "https://a?b", "https://a#b", "https://u@a", "https://a:x", "https://a:99999",
     "wss://a", "//a", "a", "https://a//b", "https://a/../b", "https://a.*.b", "https://*a", "https://**"],
)  # fmt: skip
def test_invalid_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        PublicEndpoint.parse(text)


@pytest.mark.parametrize(
    "headers",
    [[], ["https://a:8443", "https://a:8443"], ["https://a"], ["http://a:8443"], ["https://a:8443.evil.example"],
     ["https://a:8443, https://a:8443"], ["https://evil.example"], ["null"], [""], ["https://a:8443/"],
     ["https://a:8443/x"]],
)  # fmt: skip
def test_other_origins_do_not_match(headers: list[str]) -> None:
    assert not PublicEndpoint.parse("https://a:8443/x").is_origin(headers)


@given(st.text(max_size=40))
def test_any_text_is_compared(text: str) -> None:
    endpoint = PublicEndpoint.parse("https://a:8443")
    assert endpoint.is_origin([text]) in (True, False)
    assert endpoint.is_host([text]) in (True, False)


def test_a_path_is_part_of_urls_but_not_of_origins() -> None:
    endpoint = PublicEndpoint.parse("https://cloud.example/a/b/")
    assert endpoint.url == "https://cloud.example/a/b"
    assert endpoint.origin == "https://cloud.example"
    assert endpoint.is_origin(["https://cloud.example"])
    assert [endpoint.route(path) for path in ("/a/b", "/a/b/", "/a/b/c", "/a/bc", "/", "/c")] == [
        "/", "/", "/c", None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("advertised", "address", "host"),
    [
        ("https://*.console.example", "203.0.113.5", "203-0-113-5.console.example"),
        ("https://*.console.example", "2001:db8::5", "2001-db8-0-0-0-0-0-5.console.example"),
        ("https://*.console.example", "::5", "0-0-0-0-0-0-0-5.console.example"),
        ("https://*:8443", "203.0.113.5", "203.0.113.5"),
        ("https://console.example", "203.0.113.5", "console.example"),
    ],
)
def test_a_wildcard_is_replaced_by_an_address(advertised: str, address: str, host: str) -> None:
    assert PublicEndpoint.parse(advertised).at(ip_address(address)).host == host


PROXIES = networks(["10.0.0.1", "192.0.2.0/24", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # any client can send the header
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # the first entry is sent by the client
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 192.0.2.7"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.7, 192.0.2.8"], "192.0.2.7"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, "], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("fd00::1", ["[2001:db8::1]"], "2001:db8::1"),
        ("unknown", ["198.51.100.1"], "unknown"),
    ],
)
def test_only_configured_proxies_are_trusted(peer: str, forwarded: list[str], client: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == client


@given(st.text(max_size=20), st.lists(st.text(max_size=40), max_size=3))
def test_any_header_is_parsed(peer: str, forwarded: list[str]) -> None:
    assert isinstance(client_address(peer, forwarded, PROXIES), str)
