# SPDX-License-Identifier: Apache-2.0
"""Buckets of S3 servers as image stores: their definition, and their keys, which are kept sealed."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen
from cryptography.x509 import load_pem_x509_certificates

from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import store_buckets
from systemvm.management.state.database import Connection
from systemvm.management.state.zones import ImageStore
from systemvm.wire.s3_bucket import S3Bucket, S3BucketError, parse_bucket_url
from systemvm.wire.storage import Store

#: Keys of `details`: CloudStack's, and behind them those of this release.
DETAILS = (
    "accesskey", "secretkey", "endpoint", "bucket", "usehttps", "s3signer",
    "region", "cacertificate", "capacitybytes", "publiclinks",
)  # fmt: skip
#: CloudStack's settings of Amazon's client for Java: accepted, as its users send them, and without effect.
IGNORED_DETAILS = ("connectiontimeout", "maxerrorretry", "sockettimeout", "connectionttl", "usetcpkeepalive")
_REQUIRED = ("accesskey", "secretkey", "endpoint", "bucket")
#: Version 4 by its names in CloudStack; nothing else is signed.
_SIGNERS = ("AWSS3V4SignerType", "AWS4SignerType")
MAX_KEY_CHARACTERS, MAX_CA_CHARACTERS = 255, 64 * 1024
_FLAGS = {"true": True, "false": False}


@frozen
class BucketDefinition:
    """A bucket as an administrator describes it."""

    bucket: S3Bucket
    capacity_bytes: int | None = None
    has_public_links: bool = True

    @classmethod
    def of_details(cls, details: Mapping[str, str]) -> BucketDefinition:
        """Read `details` of addImageStore.

        Raises: StoreDefinitionError when one is missing, unknown or invalid; it contains no key.
        """
        known = (*DETAILS, *IGNORED_DETAILS)
        for key in details:
            if key not in known:
                raise StoreDefinitionError(
                    f"{key[:64]} is not a detail of an S3 store", f"use {', '.join(DETAILS)}"
                )
        for key in _REQUIRED:
            if not details.get(key, "").strip():
                raise StoreDefinitionError(f"details of the S3 store have no {key}", f"send details[0].{key}")
        if (signer := details.get("s3signer")) not in (None, *_SIGNERS):
            raise StoreDefinitionError(
                f"signer is not supported: {str(signer)[:40]}", f"use {_SIGNERS[0]}, or omit s3signer"
            )
        for key in ("accesskey", "secretkey"):
            if len(details[key]) > MAX_KEY_CHARACTERS or not details[key].isprintable():
                raise StoreDefinitionError(f"{key} must have 1 to {MAX_KEY_CHARACTERS} printable characters")
        ca_pem = details.get("cacertificate") or None
        if ca_pem is not None:
            _check_certificates(ca_pem)
        bucket = evolve(
            _address(details),
            region=details.get("region", "").strip()[:64],
            ca_pem=ca_pem,
            access_key=details["accesskey"],
            secret_key=details["secretkey"],
        )
        return cls(bucket, _capacity(details.get("capacitybytes")), _flag(details, "publiclinks", True))


def _address(details: Mapping[str, str]) -> S3Bucket:
    """Return the bucket at `endpoint`, which is HOST[:PORT] or a URL without a path."""
    endpoint = details["endpoint"].strip().rstrip("/")
    scheme, separator, rest = endpoint.partition("://")
    if not separator:
        scheme, rest = ("https" if _flag(details, "usehttps", True) else "http"), endpoint
    elif details.get("usehttps") is not None and _flag(details, "usehttps", True) != (scheme == "https"):
        raise StoreDefinitionError(f"usehttps contradicts the endpoint {endpoint[:200]}", "omit usehttps")
    if "/" in rest:
        raise StoreDefinitionError(f"endpoint is not HOST[:PORT]: {endpoint[:200]}", "name only the server")
    try:
        return parse_bucket_url(f"{scheme}://{rest}/{details['bucket'].strip()}")
    except S3BucketError as error:
        raise StoreDefinitionError(error.message) from None


def _check_certificates(pem: str) -> None:
    try:
        if len(pem) > MAX_CA_CHARACTERS:
            raise ValueError
        load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise StoreDefinitionError(
            f"cacertificate is not a certificate in PEM of at most {MAX_CA_CHARACTERS} characters"
        ) from None


def _flag(details: Mapping[str, str], key: str, default: bool) -> bool:
    text = details.get(key)
    if text is None:
        return default
    if text.lower() not in _FLAGS:
        raise StoreDefinitionError(f"{key} must be true or false: {text[:20]}")
    return _FLAGS[text.lower()]


def _capacity(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 19 or not int(text):
        raise StoreDefinitionError(f"capacitybytes is not a number above 0: {text[:20]}")
    return int(text)


class StoreKeys:
    """Keeps the keys of buckets, and completes what an SSVM gets when it sets a store up."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def keep(self, connection: Connection, store_id: int, definition: BucketDefinition) -> None:
        """Store the keys of a new bucket, sealed."""
        store_buckets.put(
            connection,
            store_id,
            access_key=definition.bucket.access_key,
            sealed_secret=self._seal.close(definition.bucket.secret_key),
            region=definition.bucket.region,
            ca_pem=definition.bucket.ca_pem,
            capacity_bytes=definition.capacity_bytes,
            has_public_links=definition.has_public_links,
        )

    def complete(self, connection: Connection, store: ImageStore) -> Store:
        """Return a store as `storage.setup` sends it: a bucket with its keys.

        Raises: KeystoreError when its secret was sealed with another key.
        """
        wire = store.wire
        row = store_buckets.of_store(connection, store.id) if wire.s3 is not None else None
        if wire.s3 is None or row is None:
            return wire
        secret = self._seal.open(row.sealed_secret)
        complete = evolve(
            wire.s3, region=row.region, ca_pem=row.ca_pem, access_key=row.access_key, secret_key=secret
        )
        return evolve(wire, s3=complete)
