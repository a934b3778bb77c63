# SPDX-License-Identifier: Apache-2.0
"""The file in a posted form, however its bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.serve.form_file import MAX_PREFIX_BYTES, FormError, FormFile

BOUNDARY = "----x7"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FILE_HEAD = b'Content-Disposition: form-data; name="file"; filename="a.raw"\r\nContent-Type: a/b\r\n\r\n'
FIELD_HEAD = b'Content-Disposition: form-data; name="other"\r\n\r\n'


def form(*parts: bytes, end: bytes = b"--\r\n") -> bytes:
    begin = b"--" + BOUNDARY.encode() + b"\r\n"
    return begin + (b"\r\n" + begin).join(parts) + b"\r\n--" + BOUNDARY.encode() + end


def file_of(body: bytes, step: int, content_type: str = TYPE) -> bytes:
    parser = FormFile(content_type)
    found = b"".join(
        piece for start in range(0, len(body), step) for piece in parser.feed(body[start : start + step])
    )
    parser.finish()
    return found


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"\r\n", b"--", BOUNDARY.encode(), b"x"])).map(b"".join),
    st.integers(1, 400),
)
def test_file_is_what_was_sent(content: bytes, step: int) -> None:
    if b"\r\n--" + BOUNDARY.encode() in b"\r\n" + content:
        return  # a client chooses another boundary then
    assert file_of(form(FIELD_HEAD + b"text", FILE_HEAD + content), step) == content


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_bytes_like_a_boundary_belong_to_the_file(step: int) -> None:
    almost = b"\r\n--" + BOUNDARY.encode()[:-1]
    content = b"a" + almost + b"\r\r\n" + almost + b"8\r\n--" + almost
    assert file_of(form(FILE_HEAD + content), step) == content


def test_fields_around_the_file_are_ignored() -> None:
    body = form(FIELD_HEAD + b"1", FILE_HEAD + b"content", FIELD_HEAD + b"2")
    assert file_of(body, 16) == b"content"
    assert file_of(body + b"\r\nepilogue", 16) == b"content"


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
def test_an_empty_line_can_precede_the_first_boundary(step: int) -> None:
    assert file_of(b"\r\n" + form(FILE_HEAD + b"content"), step) == b"content"


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_truncated_form_is_refused(cut: int) -> None:
    body = form(FILE_HEAD + b"0123456789", end=b"--")
    with pytest.raises(FormError) as refused:
        file_of(body[:-cut], 16)
    assert not refused.value.is_without_file


@pytest.mark.parametrize(
    "body",
    [
        b"x" * 1000,
        b"--" + BOUNDARY.encode() + b"\n" + FILE_HEAD,
        form(b"no colon\r\n\r\nx"),
        form(b"Content-Type: a/b\r\n\r\nx"),
        form(b'Content-Disposition: attachment; name="file"; filename="a"\r\n\r\nx'),
        form(b'Content-Disposition: form-data; name="file"; filename="\xff"\r\n\r\nx'),
        form(b'Content-Disposition: form-data; name="file"; filename="a"\r\nContent-Length: x\r\n\r\nx'),
        form(b'Content-Disposition: form-data; name="file"; filename="' + b"a" * 5000 + b'"\r\n\r\nx'),
        form(b"A: b\r\n" * 20 + FILE_HEAD + b"x"),
        form(FILE_HEAD.replace(b"\r\n", b"\n", 1) + b"x"),
        b"preamble" + form(FILE_HEAD + b"x"),
        b"preamble\r\n" + form(FILE_HEAD + b"x"),
        form(FILE_HEAD + b"one", FILE_HEAD + b"two"),
        form(*[FIELD_HEAD + b"x"] * 40, FILE_HEAD + b"x"),
        form(FILE_HEAD + b"x", end=b"!!\r\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 8, 11, 1 << 20])
def test_a_malformed_form_is_refused(body: bytes, step: int) -> None:
    with pytest.raises(FormError) as refused:
        file_of(body, step)
    assert not refused.value.is_without_file


def test_little_can_precede_the_file() -> None:
    with pytest.raises(FormError, match="in front of its file"):
        file_of(form(FIELD_HEAD + b"x" * 2 * MAX_PREFIX_BYTES, FILE_HEAD + b"x"), 16 * 1024)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=x", "multipart"],
)
def test_a_body_of_another_type_is_no_file(content_type: str) -> None:
    with pytest.raises(FormError) as refused:
        FormFile(content_type)
    assert refused.value.is_without_file
    assert refused.value.message == "received entity is not a file"


@pytest.mark.parametrize("boundary", ["", "; boundary=", '; boundary="a\nb"'])
def test_a_form_needs_a_boundary(boundary: str) -> None:
    with pytest.raises(FormError) as refused:
        FormFile("multipart/form-data" + boundary)
    assert not refused.value.is_without_file


def test_a_form_without_a_file_is_no_file() -> None:
    with pytest.raises(FormError) as refused:
        file_of(form(FIELD_HEAD + b"text"), 16)
    assert refused.value.is_without_file


def test_the_file_is_passed_on_while_it_arrives() -> None:
    parser = FormFile(TYPE)
    assert parser.feed(form(FILE_HEAD + b"")[: -len(BOUNDARY) - 8]) == []
    assert parser.has_file
    assert b"".join(parser.feed(b"x" * 100_000)) == b"x" * 100_000
