# SPDX-License-Identifier: Apache-2.0
"""CloudStack's request signature: HMAC-SHA1 over sorted, encoded, lowercased parameters (reference 5.1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from systemvm.management.api.errors import ApiError, ErrorCode, unauthorized

EXPIRES_FORMAT = "%Y-%m-%dT%H:%M:%S%z"  # Java's yyyy-MM-dd'T'HH:mm:ssZ


def canonical(parameters: Mapping[str, str]) -> str:
    """Return the text that is signed: every parameter but the signature, sorted by name as sent."""
    pairs = sorted((name, value) for name, value in parameters.items() if name.lower() != "signature")
    return "&".join(f"{name}={quote(value, safe='*')}" for name, value in pairs).lower()


def _java_spelling(text: str) -> str:
    """Return the text as Java's URLEncoder writes it: it encodes the tilde, as Python's quote does not."""
    return text.replace("~", "%7e")


def sign(parameters: Mapping[str, str], secret_key: str) -> str:
    return _hmac_sha1(canonical(parameters), secret_key)


def _hmac_sha1(text: str, secret_key: str) -> str:
    digest = hmac.new(secret_key.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")


def verify(parameters: Mapping[str, str], secret_key: str, now: datetime) -> None:
    """Verify the signature and, with signatureVersion 3, that `expires` is in the future.

    Raises: ApiError 401 when either is wrong.
    """
    named = {name.lower(): value for name, value in parameters.items()}
    given = named.get("signature", "").encode()
    text = canonical(parameters)
    spellings = {text, _java_spelling(text)}
    expected = [_hmac_sha1(spelling, secret_key).encode() for spelling in spellings]
    matching = sum(hmac.compare_digest(given, one) for one in expected)  # always compares both
    if not matching:
        raise unauthorized()
    if named.get("signatureversion") == "3":
        _check_expiry(named.get("expires"), now)


def _check_expiry(expires: str | None, now: datetime) -> None:
    if not expires:
        raise ApiError(
            ErrorCode.UNAUTHORIZED,
            "parameter expires is missing: signatureVersion=3 requires it",
            f"send expires as {now.astimezone(UTC):{EXPIRES_FORMAT}}",
        )
    try:
        deadline = datetime.strptime(expires, EXPIRES_FORMAT)  # noqa: DTZ007 - the format has %z
    except ValueError:
        raise ApiError(
            ErrorCode.UNAUTHORIZED,
            f"invalid time in parameter expires: {expires!r}",
            f"write it as yyyy-MM-dd'T'HH:mm:ssZ, for example {now.astimezone(UTC):{EXPIRES_FORMAT}}",
        ) from None
    if deadline <= now:
        raise ApiError(
            ErrorCode.UNAUTHORIZED,
            "signature has expired",
            "sign the request again; if it was new, compare the clocks of client and daemon",
        )
