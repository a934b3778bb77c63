# SPDX-License-Identifier: Apache-2.0
"""Headers of tus and of CORS, and the status codes that follow."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.serve import tus, upload_outcome
from systemvm.ssvm.serve.cross_origin import preflight_headers, response_headers
from systemvm.ssvm.upload_messages import UploadAnswer, UploadEnd, UploadRefusal
from systemvm.wire.transfer_failure import TransferFailure

PAGE = "https://cloud.example.test"


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "0x10", "１", "9" * 19, "1,1", "none"])
def test_a_malformed_number_is_none(text: str) -> None:
    assert tus.parse_number(text) is None


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_a_number_is_decimal(text: str, number: int) -> None:
    assert tus.parse_number(text) == number


@pytest.mark.parametrize("name", list(tus.CHECKSUM_ALGORITHMS))
def test_checksum_of_each_algorithm(name: str) -> None:
    digest = hashlib.new(tus.CHECKSUM_ALGORITHMS[name], b"body").digest()
    checksum = tus.parse_checksum(f"{name} {b64encode(digest).decode()}")
    assert checksum is not None
    assert checksum.holds_for(b"body")
    assert not checksum.holds_for(b"body.")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "sha1",
        "sha1 ",
        "sha1 !!!!",
        "sha1 AAAA",
        "crc32 AAAAAA==",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "sha256 " + "A" * 28,
    ],
)
def test_a_malformed_checksum_is_none(header: str) -> None:
    assert tus.parse_checksum(header) is None


@pytest.mark.parametrize(
    "origin", ["", "null", "https://cloud.example.test.evil.test", PAGE + "/", PAGE.upper()]
)
def test_another_page_reads_nothing(origin: str) -> None:
    assert response_headers(origin, [PAGE]) == [("Vary", "Origin")]
    assert preflight_headers(origin, [PAGE], to_private_network=True) == [("Vary", "Origin")]


def test_the_page_is_let_into_a_private_network_if_its_browser_asks() -> None:
    allowed = ("Access-Control-Allow-Private-Network", "true")
    assert allowed in preflight_headers(PAGE, [PAGE], to_private_network=True)
    assert allowed not in preflight_headers(PAGE, [PAGE], to_private_network=False)


@pytest.mark.parametrize(
    ("refusal", "tus_code", "form_code"),
    [
        (UploadRefusal.OFFSET, 409, 503),
        (UploadRefusal.LOCKED, 423, 400),
        (UploadRefusal.LENGTH, 400, 503),
        (UploadRefusal.TOO_LARGE, 413, 400),
        (UploadRefusal.USED, 400, 400),
        (UploadRefusal.UNKNOWN, 503, 503),
        (UploadRefusal.BROKEN, 503, 503),
    ],
)
def test_every_refusal_has_its_status(refusal: UploadRefusal, tus_code: int, form_code: int) -> None:
    assert upload_outcome.of_refused(UploadAnswer(refusal)).code == tus_code
    assert upload_outcome.of_refused_form(UploadAnswer(refusal)).code == form_code


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (TransferFailure.FORMAT_MISMATCH, 400),
        (TransferFailure.CHECKSUM_MISMATCH, 400),
        (TransferFailure.TOO_LARGE, 400),
        (TransferFailure.UPLOAD_EXPIRED, 400),
        (TransferFailure.STORE_FULL, 500),
        (TransferFailure.INTERNAL, 500),
    ],
)
def test_the_file_is_to_blame_or_this_cloud(failure: TransferFailure, code: int) -> None:
    end = UploadEnd(failure.value, "why")
    assert upload_outcome.of_form(end).code == code
    answer = UploadAnswer(UploadRefusal.ENDED, code=failure.value, message="why")
    assert upload_outcome.of_refused(answer).code == code


def test_a_code_of_a_later_release_is_this_clouds_fault() -> None:
    assert upload_outcome.of_form(UploadEnd("moon_phase", "why")).code == 500


def test_after_the_end_a_form_is_used_and_head_says_where_it_ended() -> None:
    end = UploadEnd(total_bytes=7)
    assert upload_outcome.of_ended(end, "POST").code == 400
    head = upload_outcome.of_ended(end, "HEAD")
    assert head.code == 200
    assert dict(head.headers) == {"Upload-Offset": "7", "Upload-Length": "7", "Cache-Control": "no-store"}
    assert upload_outcome.of_ended(end, "PATCH").code == 409
    assert upload_outcome.of_ended(UploadEnd("format_unsafe", "why"), "HEAD").code == 410


@given(st.text(max_size=40), st.integers(0, 10**18 - 1))
def test_any_text_is_a_number_or_none(text: str, number: int) -> None:
    assert tus.parse_number(str(number)) == number
    assert tus.parse_number(text) is None or text.isdigit()


@given(st.text(max_size=80), st.sampled_from([*tus.CHECKSUM_ALGORITHMS, "crc32"]), st.binary(max_size=70))
def test_any_text_is_a_checksum_or_none(text: str, name: str, digest: bytes) -> None:
    for header in (text, f"{name} {text}", f"{name} {b64encode(digest).decode()}"):
        checksum = tus.parse_checksum(header)
        assert checksum is None or not checksum.holds_for(b"another body")
