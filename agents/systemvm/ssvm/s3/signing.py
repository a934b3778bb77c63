# SPDX-License-Identifier: Apache-2.0
"""AWS Signature Version 4: in the header Authorization, or in a link that anyone can use for a time.

Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)". Paths are encoded once and are
not normalized, as S3 has it, unlike other services.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import quote

from attrs import field, frozen

from systemvm.wire.s3_bucket import S3Bucket

ALGORITHM = "AWS4-HMAC-SHA256"
#: Instead of a digest: the payload is not part of the signature, only the connection protects it.
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
#: The longest life that S3 gives a presigned link.
MAX_EXPIRES_S = 7 * 24 * 3600

Query = Iterable[tuple[str, str]]


@frozen
class S3Credentials:
    """A key pair of the store's owner."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def credentials_of(bucket: S3Bucket) -> S3Credentials:
    """Return the key pair of a store's bucket."""
    return S3Credentials(bucket.access_key, bucket.secret_key)


@frozen
class Signer:
    """Signs requests of one key pair for one region."""

    credentials: S3Credentials
    region: str
    service: str = "s3"

    def headers(
        self, method: str, path: str, query: Query, headers: Mapping[str, str], payload: str, now: datetime
    ) -> dict[str, str]:
        """Return `headers` with the date and the signature, which covers all of them.

        `path` is encoded (see `encode_path`), `headers` contains `host`, and `payload` is the SHA-256 of the
        body in hexadecimal, or UNSIGNED_PAYLOAD.
        """
        signed = {name.lower(): value for name, value in headers.items()} | {"x-amz-date": _timestamp(now)}
        text = self.canonical_request(method, path, query, signed, payload)
        signature = self._signature(self.string_to_sign(text, now), now)
        names = ";".join(sorted(signed))
        credential = f"{self.credentials.access_key}/{self._scope(now)}"
        authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return signed | {"authorization": authorization}

    def presigned_query(self, path: str, query: Query, host: str, expires_s: int, now: datetime) -> str:
        """Return the query of a link by which anyone can GET the path until it expires."""
        if not 1 <= expires_s <= MAX_EXPIRES_S:
            raise ValueError(f"lifetime of a link is out of range: {expires_s} s, the maximum is 604800 s")
        parameters = [
            *query,
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", f"{self.credentials.access_key}/{self._scope(now)}"),
            ("X-Amz-Date", _timestamp(now)),
            ("X-Amz-Expires", str(expires_s)),
            ("X-Amz-SignedHeaders", "host"),
        ]
        text = self.canonical_request("GET", path, parameters, {"host": host}, UNSIGNED_PAYLOAD)
        signature = self._signature(self.string_to_sign(text, now), now)
        return f"{canonical_query(parameters)}&X-Amz-Signature={signature}"

    def canonical_request(
        self, method: str, path: str, query: Query, headers: Mapping[str, str], payload: str
    ) -> str:
        """Return the form of a request that both ends hash; names of `headers` are in lower case."""
        lines = [f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers)]
        names = ";".join(sorted(headers))
        return "\n".join((method, path, canonical_query(query), "".join(lines), names, payload))

    def string_to_sign(self, canonical_request: str, now: datetime) -> str:
        digest = hashlib.sha256(canonical_request.encode()).hexdigest()
        return "\n".join((ALGORITHM, _timestamp(now), self._scope(now), digest))

    def _scope(self, now: datetime) -> str:
        return f"{now:%Y%m%d}/{self.region}/{self.service}/aws4_request"

    def _signature(self, string_to_sign: str, now: datetime) -> str:
        key = f"AWS4{self.credentials.secret_key}".encode()
        for part in (f"{now:%Y%m%d}", self.region, self.service, "aws4_request"):
            key = _hmac(key, part)
        return _hmac(key, string_to_sign).hex()


def encode_path(path: str) -> str:
    """Return a path with all but unreserved characters and slashes percent-encoded."""
    return quote(path, safe="/~")


def canonical_query(query: Query) -> str:
    """Return a query encoded and in the order in which both ends hash it."""
    encoded = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _timestamp(now: datetime) -> str:
    return f"{now:%Y%m%dT%H%M%SZ}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
