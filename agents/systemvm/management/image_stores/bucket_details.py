# SPDX-License-Identifier: Apache-2.0
"""The `details` of a bucket in the API: CloudStack's, and those of this release. No error contains a key."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cryptography.x509 import load_pem_x509_certificates

from systemvm.management.image_stores.definition_error import StoreDefinitionError

#: Keys of `details`: CloudStack's, and behind them those of this release.
DETAILS = (
    "accesskey", "secretkey", "endpoint", "bucket", "usehttps", "s3signer",
    "region", "cacertificate", "capacitybytes", "publiclinks",
)  # fmt: skip
#: CloudStack's settings of Amazon's client for Java: accepted, as its users send them, and without effect.
IGNORED_DETAILS = ("connectiontimeout", "maxerrorretry", "sockettimeout", "connectionttl", "usetcpkeepalive")
#: What a store can get later; the others say which bucket it is.
CHANGEABLE_DETAILS = ("accesskey", "secretkey", "region", "cacertificate", "capacitybytes", "publiclinks")
KEYS = ("accesskey", "secretkey")
MAX_KEY_CHARACTERS, MAX_CA_CHARACTERS, MAX_REGION_CHARACTERS = 255, 64 * 1024, 64
_FLAGS = {"true": True, "false": False}


def check_names(details: Mapping[str, str], known: Collection[str], use: Collection[str]) -> None:
    """Refuse details with other names than the known ones.

    Raises: StoreDefinitionError which says what to use.
    """
    for key in details:
        if key not in known:
            raise StoreDefinitionError(
                f"{key[:64]} is not a detail of an S3 store",
                f"use {', '.join(use)}",
                parameter=f"details[0].{key[:64]}",
            )


def check_key(name: str, text: str) -> str:
    if not 0 < len(text) <= MAX_KEY_CHARACTERS or not text.isprintable():
        raise StoreDefinitionError(
            f"{name} must have 1 to {MAX_KEY_CHARACTERS} printable characters", parameter=f"details[0].{name}"
        )
    return text


def check_certificates(pem: str) -> str:
    try:
        if len(pem) > MAX_CA_CHARACTERS:
            raise ValueError
        load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise StoreDefinitionError(
            f"cacertificate is not a certificate in PEM of at most {MAX_CA_CHARACTERS} characters",
            parameter="details[0].cacertificate",
        ) from None
    return pem


def read_region(text: str) -> str:
    return text.strip()[:MAX_REGION_CHARACTERS]


def read_flag(details: Mapping[str, str], key: str, default: bool) -> bool:
    text = details.get(key)
    if text is None:
        return default
    if text.lower() not in _FLAGS:
        raise StoreDefinitionError(f"{key} must be true or false: {text[:20]}", parameter=f"details[0].{key}")
    return _FLAGS[text.lower()]


def read_capacity(text: str, lowest: int = 1) -> int:
    if not text.isascii() or not text.isdigit() or len(text) >= 19 or int(text) < lowest:
        raise StoreDefinitionError(
            f"capacitybytes is not a number above {lowest - 1}: {text[:20]}",
            parameter="details[0].capacitybytes",
        )
    return int(text)
