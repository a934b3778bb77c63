# SPDX-License-Identifier: Apache-2.0
"""Documents of an S3 server that are hostile, too large or not XML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.s3 import bounded_xml
from systemvm.ssvm.s3.bounded_xml import XmlElement, XmlError


def test_a_document_is_a_tree_without_namespaces() -> None:
    document = b'  \n<?xml version="1.0"?><s:A xmlns:s="urn:a"><s:B>1&amp;2</s:B><C/><s:B>3</s:B></s:A>'
    root = bounded_xml.parse(document)
    assert root == XmlElement("A", "", (XmlElement("B", "1&2"), XmlElement("C"), XmlElement("B", "3")))
    assert root.text_of("B") == "1&2"
    assert root.text_of("D") is None
    assert [each.text for each in root.all("B")] == ["1&2", "3"]


BILLION = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "document",
    [
        f'<!DOCTYPE a [<!ENTITY l0 "lol">{BILLION}]><a>&l9;</a>'.encode(),
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://169.254.169.254/"><a/>',
        b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1/"> %x;]><a/>',
        b"<!DOCTYPE html><html></html>",
        b"<a>&undeclared;</a>",
        b"",
        b"   ",
        b"<a>",
        b"<a></b>",
        b"<a/><a/>",
        b"not XML",
        b"\xff\xfe<",
        b'<?xml version="1.0" encoding="no-such-encoding"?><a/>',
        b"<a>" * 9 + b"</a>" * 9,
        b"<a>" + b"<b/>" * bounded_xml.MAX_ELEMENTS + b"</a>",
        b"<a>" + b" " * bounded_xml.MAX_BYTES + b"</a>",
    ],
    ids=[
        "entity-expansion", "external-entity", "external-subset", "parameter-entity", "html", "undeclared",
        "empty", "blank", "open", "mismatch", "two-roots", "text", "utf16-cut", "encoding", "deep", "many",
        "large",
    ],
)  # fmt: skip
def test_a_document_beyond_the_bounds_is_refused(document: bytes) -> None:
    with pytest.raises(XmlError):
        bounded_xml.parse(document)


@given(st.binary(max_size=200) | st.text(alphabet="<>/ab&;![]'\" =", max_size=60).map(str.encode))
def test_any_bytes_are_a_tree_or_an_error(document: bytes) -> None:
    try:
        root = bounded_xml.parse(document)
    except XmlError:
        return
    assert root.name
