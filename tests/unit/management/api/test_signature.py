# SPDX-License-Identifier: Apache-2.0
"""Signatures, by test vectors of CloudStack's guide and of other clients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from systemvm.management.api import signature
from systemvm.management.api.errors import ApiError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECRET = "VDaACYb0LV9eNjTetIOElcVQkvJck_J_QljX_FcHRj87ZKiy0z0ty0ZsYBkoXkY9b7eq1EhwJaw7FF3akA3KBQ"

#: A request of CloudStack's developer's guide.
DOCUMENTED = {
    "apikey": "plgWJfZK4gyS3mOMTVmjUVg-X-jlWlnfaUJ9GAbBbf9EdM-kAYMmAiLqzzq1ElZLYq_u38zCm0bewzGUdP66mg",
    "command": "listUsers",
    "response": "json",
}
DOCUMENTED_SIGNATURE = "TTpdDq/7j/J58XCRHomKoQXEQds="


def signed(parameters: dict[str, str], secret: str = SECRET) -> dict[str, str]:
    return parameters | {"signature": signature.sign(parameters, secret)}


def test_the_documented_request_gives_the_documented_signature() -> None:
    assert signature.sign(DOCUMENTED, SECRET) == DOCUMENTED_SIGNATURE


def test_the_signed_text_is_sorted_encoded_and_lower_case() -> None:
    text = signature.canonical({"b": "x y", "a": "*~/", "Signature": "ignored", "C": "ü"})
    assert text == "c=%c3%bc&a=*~%2f&b=x%20y"


def test_names_sort_as_sent_and_not_without_case() -> None:
    assert signature.canonical({"command": "x", "apiKey": "k", "Zone": "z"}) == "zone=z&apikey=k&command=x"


@pytest.mark.parametrize("value", ["a~b", "*", "ä ö", "a+b=c&d", "", "100%"])
def test_signature_of_the_client_cs_is_accepted(value: str) -> None:
    from cs import CloudStack

    client = CloudStack("http://127.0.0.1/", key="k", secret=SECRET)
    parameters = {"command": "listZones", "name": value, "apiKey": "k"}
    client._sign(parameters)
    signature.verify(parameters, SECRET, NOW)


def test_tilde_can_be_encoded_as_in_java() -> None:
    parameters = {"command": "listZones", "name": "a~b"}
    as_java = signature._hmac_sha1("command=listzones&name=a%7eb", SECRET)
    signature.verify(parameters | {"signature": as_java}, SECRET, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"extra": "1"},
        {"signature": ""},
        {"signature": "ü"},
        {"signature": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="},
    ],
)
def test_any_change_invalidates_a_signature(change: dict[str, str]) -> None:
    parameters = signed({"command": "listZones", "name": "one"})
    with pytest.raises(ApiError) as refused:
        signature.verify(parameters | change, SECRET, NOW)
    assert refused.value.code == 401


def test_missing_signature_is_rejected() -> None:
    with pytest.raises(ApiError):
        signature.verify({"command": "listZones"}, SECRET, NOW)


def test_another_secret_is_rejected() -> None:
    with pytest.raises(ApiError):
        signature.verify(signed({"command": "listZones"}, "another"), SECRET, NOW)


def expiring(expires: str | None) -> dict[str, str]:
    parameters = {"command": "listZones", "signatureVersion": "3"}
    return signed(parameters if expires is None else parameters | {"expires": expires})


@pytest.mark.parametrize("offset", ["+0000", "+0200", "-0530"])
def test_future_time_in_any_zone_is_accepted(offset: str) -> None:
    hours, minutes = int(offset[:3]), int(offset[0] + offset[3:])
    local = NOW + timedelta(hours=hours, minutes=minutes, seconds=1)
    signature.verify(expiring(f"{local:%Y-%m-%dT%H:%M:%S}{offset}"), SECRET, NOW)


@pytest.mark.parametrize(
    ("expires", "message"),
    [
        (None, "signatureVersion=3 requires it"),
        ("tomorrow", "invalid time"),
        ("2026-11-21T12:00:01", "invalid time"),
        ("2026-11-21T12:00:00+0000", "has expired"),
        ("2026-11-21T13:00:00+0200", "has expired"),
    ],
)
def test_version_3_needs_an_expiry_in_the_future(expires: str | None, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        signature.verify(expiring(expires), SECRET, NOW)
    assert refused.value.code == 401


def test_without_version_3_expires_is_only_a_parameter() -> None:
    signature.verify(signed({"command": "listZones", "expires": "2001-01-01T00:00:00+0000"}), SECRET, NOW)
