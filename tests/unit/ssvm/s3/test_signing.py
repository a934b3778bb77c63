# SPDX-License-Identifier: Apache-2.0
"""Signatures, by the examples of the S3 API Reference and the published suite of Signature Version 4."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from systemvm.ssvm.s3.signing import (
    UNSIGNED_PAYLOAD,
    S3Credentials,
    Signer,
    canonical_query,
    encode_path,
)

EMPTY = hashlib.sha256(b"").hexdigest()
#: Of the S3 API Reference, "Signature Calculations for the Authorization Header".
S3 = Signer(S3Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), "us-east-1")
S3_NOW = datetime(2013, 5, 24, tzinfo=UTC)
S3_HOST = "examplebucket.s3.amazonaws.com"
#: Of the test suite.
SUITE = Signer(
    S3Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), "us-east-1", "service"
)
SUITE_NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
PUT_BODY = b"Welcome to Amazon S3."


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"),
    [
        (
            "GET", "/test.txt", (), {"range": "bytes=0-9"}, b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT", "/test$file.text", (),
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}, PUT_BODY,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET", "/", (("lifecycle", ""),), {}, b"",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET", "/", (("max-keys", "2"), ("prefix", "J")), {}, b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["object", "put", "lifecycle", "list"],
)  # fmt: skip
def test_examples_of_s3_are_signed(
    method: str,
    path: str,
    query: tuple[tuple[str, str], ...],
    headers: dict[str, str],
    body: bytes,
    signature: str,
) -> None:
    digest = hashlib.sha256(body).hexdigest()
    given = {**headers, "Host": S3_HOST, "x-amz-content-sha256": digest}
    signed = S3.headers(method, encode_path(path), query, given, digest, S3_NOW)
    assert signed["authorization"].endswith(f"Signature={signature}")
    assert signed["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders="
    )
    assert signed["x-amz-date"] == "20130524T000000Z"


def test_the_presigned_example_of_s3_is_signed() -> None:
    query = S3.presigned_query("/test.txt", (), S3_HOST, 86400, S3_NOW)
    assert query == (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "signature"),
    [
        ("GET", "/", (), {}, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", (), {}, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET", "/", (("Param2", "value2"), ("Param1", "value1")), {},
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("GET", f"/{UNRESERVED}", (), {}, "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("GET", "/\u1234", (), {}, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            "GET", "/", (), {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
    ],
    ids=["vanilla", "post", "query-order", "unreserved", "utf8", "trim"],
)  # fmt: skip
def test_the_published_suite_is_signed(
    method: str, path: str, query: tuple[tuple[str, str], ...], headers: dict[str, str], signature: str
) -> None:
    given = {**headers, "Host": "example.amazonaws.com"}
    signed = SUITE.headers(method, encode_path(path), query, given, EMPTY, SUITE_NOW)
    assert signed["authorization"].endswith(f"Signature={signature}")


def test_a_query_is_encoded_and_sorted_by_its_encoded_form() -> None:
    query = [("prefix", "a/b c+d"), ("uploads", ""), ("list-type", "2"), ("prefix", "A~é")]
    assert canonical_query(query) == "list-type=2&prefix=A~%C3%A9&prefix=a%2Fb%20c%2Bd&uploads="


def test_a_payload_can_be_left_out_of_the_signature() -> None:
    headers = {"host": S3_HOST, "x-amz-content-sha256": UNSIGNED_PAYLOAD}
    signed = S3.headers("PUT", "/a", (), headers, UNSIGNED_PAYLOAD, S3_NOW)
    other = S3.headers("PUT", "/a", (), headers, EMPTY, S3_NOW)
    assert signed["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert signed["authorization"] != other["authorization"]


@pytest.mark.parametrize("expires_s", [0, -1, 604_801])
def test_a_link_lives_at_most_a_week(expires_s: int) -> None:
    with pytest.raises(ValueError, match="lifetime"):
        S3.presigned_query("/a", (), S3_HOST, expires_s, S3_NOW)


def test_a_key_pair_is_never_shown() -> None:
    shown = repr(S3) + str(S3.credentials)
    assert "AKIAIOSFODNN7EXAMPLE" not in shown
    assert "wJalr" not in shown
