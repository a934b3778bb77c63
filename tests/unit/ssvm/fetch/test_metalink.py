# SPDX-License-Identifier: Apache-2.0
"""Metalink documents, and the XML that they must not contain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import metalink
from systemvm.ssvm.fetch.metalink import MAX_MIRRORS, V3, V4
from systemvm.wire.transfer_failure import TransferFailure

SHA256, MD5, PIECE = "c" * 64, "a" * 32, "b" * 40


def four(inner: str, name: str = "image.qcow2") -> bytes:
    return (
        f'<?xml version="1.0"?><metalink xmlns="{V4}"><file name="{name}">{inner}</file></metalink>'.encode()
    )


def three(inner: str) -> bytes:
    file = f'<files><file name="image.qcow2">{inner}</file></files>'
    return f'<metalink version="3.0" xmlns="{V3}">{file}</metalink>'.encode()


URL = "<url>http://a.example.test/x</url>"


def test_version_4_has_priorities_size_and_the_strongest_checksum() -> None:
    found = metalink.parse(
        four(
            f"""<size>1000</size><hash type="md5">{MD5}</hash><hash type="sha-256">{SHA256.upper()}</hash>
            <pieces type="sha-1" length="600"><hash>{PIECE}</hash><hash>{PIECE}</hash></pieces>
            <url priority="2">https://b.example.test/x</url><url>https://last.example.test/x</url>
            <url location="de" priority="1">https://a.example.test/x</url>
            <url priority="1">ftp://c.example.test/x</url>
            <metaurl mediatype="torrent">http://d.example.test/x.torrent</metaurl>"""
        )
    )
    assert [url.host for url in found.mirrors] == ["a.example.test", "b.example.test", "last.example.test"]
    assert (found.size_bytes, str(found.checksum)) == (1000, f"{{SHA-256}}{SHA256}")
    assert found.pieces is not None
    assert (found.pieces.algorithm.value, found.pieces.length_bytes) == ("SHA-1", 600)
    assert found.pieces.digests == (PIECE, PIECE)


def test_version_3_is_what_cloudstacks_users_have() -> None:
    found = metalink.parse(
        three(
            f"""<size>7</size><verification><hash type="sha256">{SHA256}</hash>
            <pieces length="4" type="sha1"><hash piece="0">{PIECE}</hash>
            <hash piece="1">{PIECE}</hash></pieces>
            </verification><resources maxconnections="2">
            <url type="http" preference="10">http://b.example.test/x</url>
            <url type="bittorrent" preference="100">http://t.example.test/x.torrent</url>
            <url type="https" preference="90">https://a.example.test/x</url></resources>"""
        )
    )
    assert [url.host for url in found.mirrors] == ["a.example.test", "b.example.test"]
    assert (found.name, found.size_bytes, str(found.checksum)) == ("image.qcow2", 7, f"{{SHA-256}}{SHA256}")


LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html/>",
        b"<metalink/>",
        b"not xml",
        four(URL)[:-5],
        b'<!DOCTYPE metalink SYSTEM "http://169.254.169.254/x">' + four(URL).partition(b"?>")[2],
        b'<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        + four(f"{URL}<size>&x;</size>").partition(b"?>")[2],
        f'<!DOCTYPE m [<!ENTITY l0 "lol">{LAUGHS}]>'.encode()
        + four(f"{URL}<size>&l9;</size>").partition(b"?>")[2],
        b"<!DOCTYPE m []>" + four(URL).partition(b"?>")[2],
        four(f"{URL}<size>&undefined;</size>"),
        four(""),
        four("<url>ftp://a.example.test/x</url><url>http://0x7f.1/x</url><url>file:///etc/passwd</url>"),
        four(f"{URL}<size>-1</size>"),
        four(f"{URL}<size>{'9' * 30}</size>"),
        four(f"{URL}<hash type='sha-256'>{'z' * 64}</hash>"),
        four(f"{URL}<hash type='sha-256'>{MD5}</hash>"),
        four(f"{URL}<size>10</size><pieces type='sha-1' length='4'><hash>{PIECE}</hash></pieces>"),
        four(f"{URL}<pieces type='sha-1' length='0'><hash>{PIECE}</hash></pieces>"),
        four(f"{URL}<size>{'1' * 5000}</size>"),
        four(URL + "<a>" * 30 + "</a>" * 30),
        four(URL).replace(
            b"</metalink>", b'<file name="b"><url>http://b.example.test/x</url></file></metalink>'
        ),
    ],
)
def test_what_is_no_metalink_of_one_file_is_refused(document: bytes) -> None:
    with pytest.raises(TransferError) as refused:
        metalink.parse(document)
    assert refused.value.code is TransferFailure.METALINK_INVALID


def test_mirrors_are_bounded_and_each_is_used_once() -> None:
    many = "".join(f"<url>http://m{number}.example.test/x</url>" * 2 for number in range(MAX_MIRRORS))
    assert len(metalink.parse(four(many)).mirrors) == MAX_MIRRORS // 2


def test_a_name_with_directories_decides_nothing() -> None:
    assert metalink.parse(four(URL, name="../../etc/passwd")).mirrors


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: four(text)))
def test_any_bytes_are_a_metalink_or_a_reason(document: bytes) -> None:
    try:
        metalink.parse(document)
    except TransferError as error:
        assert error.code is TransferFailure.METALINK_INVALID


@pytest.mark.parametrize("encoding", ["x", "hex", "utf-7", "shift_jis", "utf-16"])
def test_an_encoding_that_cannot_be_read_is_a_reason(encoding: str) -> None:
    document = four(URL).replace(b'"1.0"', f'"1.0" encoding="{encoding}"'.encode())
    with pytest.raises(TransferError) as refused:
        metalink.parse(document)
    assert refused.value.code is TransferFailure.METALINK_INVALID


@pytest.mark.parametrize("length", ["1" * 5000, "1" * 20, "0", "", "-1", "\u0661"])
def test_a_length_of_pieces_that_is_no_number_is_a_reason(length: str) -> None:
    pieces = f'<pieces type="sha-1" length="{length}"><hash>{PIECE}</hash></pieces>'
    with pytest.raises(TransferError, match="length of pieces"):
        metalink.parse(four(f"{URL}{pieces}"))
