# SPDX-License-Identifier: Apache-2.0
"""The signed parameters are the ones read: no encoding hides a parameter in another's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
import pytest_twisted
from hypothesis import assume, given
from hypothesis import strategies as st

from in_memory_http import HttpAnswer, request
from in_memory_http import send as send_raw
from small_cloud import SmallCloud
from small_cloud.rows import API_KEY, SECRET_KEY
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.api.request_parameters import read_parameters
from systemvm.management.api.signature import EXPIRES_FORMAT, canonical, sign, verify
from systemvm.management.api.site import ManagementSite

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EXPIRED = {
    "apiKey": API_KEY,
    "command": "listZones",
    "expires": f"{NOW - timedelta(days=300):{EXPIRES_FORMAT}}",
    "response": "json",
    "signatureVersion": "3",
}


def encode(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


async def send(cloud: SmallCloud, query: str, body: bytes | None = None) -> HttpAnswer:
    method = "GET" if body is None else "POST"
    return await request(ManagementSite(cloud.client()), method, f"/api?{query}", body)


@pytest_twisted.ensureDeferred
async def test_expired_signature_stays_expired_when_a_name_contains_other_parameters(
    cloud: SmallCloud,
) -> None:
    """The name `response=json&signatureVersion` gives the same signed text and hides the version."""
    visible = {name: EXPIRED[name] for name in ("apiKey", "command", "expires")}
    altered = visible | {"response=json&signatureVersion": "3", "signature": sign(EXPIRED, SECRET_KEY)}
    answer = await send(cloud, "&".join(f"{encode(name)}={encode(v)}" for name, v in altered.items()))
    assert answer.status == 430, answer.body
    assert b"has an invalid character" in answer.body


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("command=listZones&command=listUsers", None),
        ("command=listZones&COMMAND=listUsers", None),
        ("command=listZones", b"command=listUsers"),
        ("command=listZones", b"Command=listUsers"),
        ("c%6fmmand=listZones&command=listUsers", None),
    ],
)
async def test_duplicate_parameter_is_rejected_before_authentication(
    cloud: SmallCloud, query: str, body: bytes | None
) -> None:
    answer = await send(cloud, query, body)
    assert answer.status == 430
    assert b"more than once" in answer.body


@pytest_twisted.ensureDeferred
async def test_multipart_form_is_rejected(cloud: SmallCloud) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="command"\r\n\r\nlistZones\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(len(part))}
    lines = ["POST /api HTTP/1.1", "Host: h", "Connection: close", *(f"{n}: {v}" for n, v in headers.items())]
    answer = await send_raw(ManagementSite(cloud.client()), "\r\n".join(lines).encode() + b"\r\n\r\n" + part)
    assert answer.status == 400
    assert b"multipart forms are not supported" in answer.body


@pytest_twisted.ensureDeferred
async def test_password_in_the_query_is_rejected_however_its_name_is_encoded(cloud: SmallCloud) -> None:
    answer = await send(cloud, "p%61ssword=x", b"command=login&username=admin&response=json")
    assert answer.status == 400
    assert b"must be in the body" in answer.body


@pytest.mark.parametrize(
    "name",
    ["details[0].key", "tags[1].value", "ctxUserId", "_", "nicnetworklist[0].nic", "details[0].a-b.c"],
)
def test_names_as_cloudstacks_are_accepted(name: str) -> None:
    assert read_parameters({name.encode(): [b"v"]}) == {name: "v"}


@pytest.mark.parametrize(
    "name",
    [b"", b"a&b", b"a=b", b"a b", b"a%b", b"a;b", b"a+b", b"a\nb", b"a#b", "a\u212a".encode(), b"\xff"],
)
def test_invalid_names_are_rejected(name: bytes) -> None:
    """The Kelvin sign is k in lower case, so `api<Kelvin>ey` would be a second API key."""
    with pytest.raises(ApiError) as refused:
        read_parameters({name: [b"v"]})
    assert refused.value.code is ErrorCode.MALFORMED_PARAMETER
    assert refused.value.message.isprintable()


@given(data=st.data())
def test_expired_signature_stays_expired_however_the_text_is_split(data: st.DataObject) -> None:
    """Attack: split the signed text `n=v&n=v` into any names and values that join to the same text."""
    text = canonical(EXPIRED) if data.draw(st.booleans()) else _as_sent(EXPIRED)
    pairs = text.split("&")
    cuts = data.draw(st.lists(st.booleans(), min_size=len(pairs) - 1, max_size=len(pairs) - 1))
    groups = [[pairs[0]]]
    for cut, pair in zip(cuts, pairs[1:], strict=True):
        if cut:
            groups.append([pair])
        else:
            groups[-1].append(pair)
    arguments: dict[bytes, list[bytes]] = {}
    for group in groups:
        joined = "&".join(group)
        places = [index for index, character in enumerate(joined) if character == "="]
        place = data.draw(st.sampled_from(places))
        name = data.draw(st.sampled_from([joined[:place], joined[:place].lower(), joined[:place].upper()]))
        arguments.setdefault(name.encode(), []).append(unquote(joined[place + 1 :]).encode())
    extra = data.draw(st.sampled_from([{}, {b"Expires": [b"2999-01-01T00:00:00+0000"]}, {b"x": [b"1"]}]))
    arguments |= extra
    arguments[b"signature"] = [sign(EXPIRED, SECRET_KEY).encode()]
    with pytest.raises(ApiError):
        verify(read_parameters(arguments), SECRET_KEY, NOW)


def _as_sent(parameters: dict[str, str]) -> str:
    return "&".join(f"{name}={encode(value)}" for name, value in sorted(parameters.items()))


@given(names=st.lists(st.from_regex(r"[A-Za-z0-9_.\[\]-]{1,20}", fullmatch=True), unique_by=str.lower))
def test_accepted_parameters_are_signed_as_distinct_pairs(names: list[str]) -> None:
    assume(not any(name.lower() == "signature" for name in names))
    parameters = read_parameters({name.encode(): [f"{n}&x=y".encode()] for n, name in enumerate(names)})
    assert canonical(parameters).count("=") == len(names)
