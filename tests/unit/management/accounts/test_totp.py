# SPDX-License-Identifier: Apache-2.0
"""Codes of authenticator apps, by the examples of RFC 6238."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from systemvm.management.accounts import totp

#: RFC 6238, appendix B: its examples have 8 digits, the last 6 of which are the code of 6.
SECRET = base64.b32encode(b"12345678901234567890").decode()
EXAMPLES = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(("seconds", "code"), EXAMPLES)
def test_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    assert totp.matching_step(SECRET, code, moment(seconds)) == seconds // 30


@pytest.mark.parametrize(("late_s", "is_taken"), [(-60, False), (-30, True), (30, True), (60, False)])
def test_a_clock_can_be_one_step_early_or_late(late_s: int, is_taken: bool) -> None:
    found = totp.matching_step(SECRET, "050471", moment(1111111111 + late_s))
    assert found == (1111111111 // 30 if is_taken else None)


def test_a_used_code_and_those_before_it_are_refused() -> None:
    step = 1111111111 // 30
    assert totp.matching_step(SECRET, "050471", moment(1111111111), after=step) is None
    assert totp.matching_step(SECRET, "081804", moment(1111111111), after=step) is None
    assert totp.matching_step(SECRET, "050471", moment(1111111111), after=step - 1) == step


@pytest.mark.parametrize("code", ["", "0", "50471", "0050471", "ä50471", "050471 ", "x" * 10_000])
def test_other_texts_are_no_codes(code: str) -> None:
    assert totp.matching_step(SECRET, code, moment(1111111111)) is None


def test_secrets_have_160_bits_and_differ() -> None:
    secrets = {totp.new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert {len(base64.b32decode(secret)) for secret in secrets} == {20}


def test_an_app_gets_secret_name_and_issuer() -> None:
    address = urlsplit(totp.address_of(SECRET, "ann@lee", "Cloud & Co"))
    assert (address.scheme, address.netloc, unquote(address.path)) == (
        "otpauth",
        "totp",
        "/Cloud & Co:ann@lee",
    )
    assert parse_qs(address.query) == {"secret": [SECRET], "issuer": ["Cloud & Co"]}


def test_a_qr_code_is_a_square_with_its_three_marks() -> None:
    rows = totp.qr_rows(totp.address_of(SECRET, "ann", "Cloud"))
    assert {len(row) for row in rows} == {len(rows)}
    assert set("".join(rows)) == {"0", "1"}
    for corner in (rows[0][:8], rows[0][::-1][:8], rows[-1][:8]):
        assert corner == "11111110"
