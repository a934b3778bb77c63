# SPDX-License-Identifier: Apache-2.0
"""Source URLs: accepted and refused spellings, and redirects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.wire.source_url import SourceUrlError, parse

POLICY = AddressPolicy.of_zone(
    [("10.11.0.0/24", "the management network"), ("10.12.0.2", "a storage server")]
)

ALLOWED = {
    "http://images.example.test/a.iso": "http://images.example.test/a.iso",
    "HTTPS://Images.Example.TEST:443/a": "https://images.example.test/a",
    "http://images.example.test./a": "http://images.example.test/a",
    "http://images.example.test:80": "http://images.example.test/",
    "http://images.example.test:/a": "http://images.example.test/a",
    "http://images.example.test:8080/a?b=c&d=%20#part": "http://images.example.test:8080/a?b=c&d=%20",
    "http://bücher.example/ä": "http://xn--bcher-kva.example/%C3%A4",
    "http://203.0.113.10/a": "http://203.0.113.10/a",
    "http://192.168.1.1/a": "http://192.168.1.1/a",
    "http://[2001:db8:0:0::1]:8000/a": "http://[2001:db8::1]:8000/a",
    "http://a_b.example/x{y}|z": "http://a_b.example/x%7By%7D%7Cz",
    "http://127.0.0.1.example.test/": "http://127.0.0.1.example.test/",
    "http://1e100.net/": "http://1e100.net/",
}

REFUSED = [
    # loopback in every spelling
    "http://127.0.0.1/", "http://127.0.0.1:8080/", "http://127.1/", "http://127.0.1/", "http://2130706433/",
    "http://0x7f000001/", "http://0x7f.0.0.1/", "http://0X7F.1/", "http://0177.0.0.1/", "http://017700000001/",
    "http://127.000.000.001/", "http://00000177.0.0.1/", "http://127.0.0.1./", "http://localhost/",
    "http://LOCALHOST./", "http://api.localhost/", "http://①②⑦.⓪.⓪.①/", "http://１２７.０.０.１/",
    "http://127。0。0。1/", "http://127%2e0%2e0%2e1/", "http://%31%32%37.0.0.1/", "http://0/", "http://0.0.0.0/",
    "http://0x0/", "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::127.0.0.1]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/", "http://[64:ff9b:1::7f00:1]/", "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/", "http://[::1%25lo]/", "http://[fe80::1%eth0]/", "http://[fe80::1]/",
    # networks that cannot hold a source
    "http://169.254.169.254/latest/", "http://169.254.0.1:8250/", "http://2852039166/", "http://0xa9fea9fe/",
    "http://[::ffff:a9fe:a9fe]/", "http://[fec0::1]/", "http://[ff02::1]/", "http://224.0.0.1/",
    "http://255.255.255.255/", "http://240.0.0.1/", "http://192.0.0.8/", "http://192.88.99.1/",
    "http://10.11.0.1/", "http://10.11.0.255/", "http://[::ffff:10.11.0.1]/", "http://[64:ff9b::a0b:1]/",
    "http://10.12.0.2/", "http://168492545/",
    # URLs that parsers interpret differently
    "http://ok.example@127.0.0.1/", "http://user:secret@images.example.test/", "http://@127.0.0.1/",
    "http://127.0.0.1\\@images.example.test/", "http://images.example.test\\.evil/", "http:///etc/passwd",
    "http://", "http:/images.example.test/", "//images.example.test/", "images.example.test/a", "",
    " http://images.example.test/", "http://images.example.test/a b", "http://images.example.test/\r\nX: y",
    "http://images.example.test/\0", "http://ima\tges.example.test/", "http://[::1", "http://::1/", "http://[1.2.3.4]/",
    "http://-a.example/", "http://a..example/", "http://" + "a" * 64 + ".example/", "http://a.example:99999/",
    "http://a.example:x/", "http://a.example:0/", "http://a.example:22/", "http://a.example:25/",
    "http://a.example/" + "a" * 5000,
    # schemes other than HTTP
    "file:///etc/passwd", "file://127.0.0.1/etc/passwd", "ftp://images.example.test/a", "gopher://a.example:70/",
    "nfs://10.12.0.2/export", "scp://a.example/x", "data:text/plain,x", "dict://a.example:11211/", "jar:http://a!/b",
]  # fmt: skip


def why_refused(text: str) -> str | None:
    """Return why fetch rejects a URL before any look-up, or None."""
    try:
        url = parse(text)
    except SourceUrlError as error:
        assert TransferError.of_url(error).code.value in ("url_invalid", "url_denied")
        return str(error)
    return POLICY.why_denied(url.address) if url.address is not None else None


@pytest.mark.parametrize(("text", "normalized"), ALLOWED.items())
def test_an_allowed_url_is_normalized(text: str, normalized: str) -> None:
    assert parse(text).text == normalized
    assert why_refused(text) is None


@pytest.mark.parametrize("text", REFUSED)
def test_a_disallowed_url_is_refused(text: str) -> None:
    error = why_refused(text)
    assert error, parse(text)
    assert "secret" not in error


def test_at_least_60_spellings_are_refused() -> None:
    assert len(set(REFUSED)) >= 60


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("other", "https://a.example:8443/dir/other"),
        ("/top?x", "https://a.example:8443/top?x"),
        ("//b.example/x", "https://b.example/x"),
        ("http://b.example/", "http://b.example/"),
        ("?q", "https://a.example:8443/dir/file?q"),
    ],
)
def test_a_redirect_is_resolved(location: str, leads_to: str) -> None:
    assert parse("https://a.example:8443/dir/file?sig=1").follow(location.encode()).text == leads_to


@pytest.mark.parametrize("location", ["", "file:///etc/passwd", "http://127.1/", "\\\\evil\\x", "a" * 5000])
def test_a_disallowed_redirect_is_refused(location: str) -> None:
    with pytest.raises(SourceUrlError):
        parse("https://a.example/").follow(location.encode())


def test_origin_has_no_query() -> None:
    assert parse("https://a.example/x?signature=secret").origin == "https://a.example"


@given(st.text(max_size=60))
def test_any_text_is_normalized_or_refused(text: str) -> None:
    try:
        url = parse("http://" + text)
    except SourceUrlError:
        return
    assert url.text.isascii()
    assert parse(url.text) == url


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (b"/f/mit%20Leerzeichen%20\xc3\xbc.qcow2", "/f/mit%20Leerzeichen%20%C3%BC.qcow2"),
        (b"/f/mit Leerzeichen %C3%BC.qcow2", "/f/mit%20Leerzeichen%20%C3%BC.qcow2"),
        (b"/latin/\xfc.iso", "/latin/%FC.iso"),
        (b"/x?name=\xff\xfe a", "/x?name=%FF%FE%20a"),
        (b" /x \t", "/x"),
    ],
)
def test_raw_bytes_of_a_location_are_percent_encoded(location: bytes, target: str) -> None:
    assert parse("https://a.example/").follow(location).target == target


def test_the_host_of_a_location_is_decoded_as_utf_8() -> None:
    assert parse("https://a.example/").follow("http://bücher.example/ä".encode()).text == (
        "http://xn--bcher-kva.example/%C3%A4"
    )


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (b"ftp://b.example/x", "redirect has an unsupported scheme: ftp"),
        (b"http://b.example:22/", "redirect has a port that is not allowed: 22"),
        (b"http://user@b.example/", "redirect contains a user name"),
        (b"http://[::1/", "redirect cannot be parsed"),
        (b"http://0x7f.1/", "host of redirect is an address in an unusual form"),
        (b"http://localhost/", "host of redirect is loopback: localhost"),
        (b"http://b\xff.example/", "host of redirect is not a valid international name"),
        (b"/x\r\ny", "redirect contains a control character"),
        (b"/" + b"a" * 5000, "redirect is too long: 5018 characters, the maximum is 4096"),
        (b"", "redirect has no target"),
    ],
)
def test_error_in_a_redirect_names_the_redirect(location: bytes, message: str) -> None:
    with pytest.raises(SourceUrlError) as refused:
        parse("https://a.example/").follow(location)
    assert message in refused.value.message
    assert refused.value.hint == "register the final URL instead; https://a.example sends this redirect"
