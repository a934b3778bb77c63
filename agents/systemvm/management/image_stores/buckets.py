# SPDX-License-Identifier: Apache-2.0
"""Buckets of S3 servers as image stores: their definition, and their keys, which are kept sealed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import evolve, frozen

from systemvm.management.image_stores import bucket_details
from systemvm.management.image_stores.bucket_details import DETAILS, IGNORED_DETAILS, KEYS
from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import store_buckets
from systemvm.management.state.database import Connection
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.store_buckets import StoreBucketRow
from systemvm.management.state.zones import ImageStore
from systemvm.wire.s3_bucket import S3Bucket, S3BucketError, parse_bucket_url
from systemvm.wire.storage import Store

_REQUIRED = ("accesskey", "secretkey", "endpoint", "bucket")
#: Version 4 by its names in CloudStack; nothing else is signed.
_SIGNERS = ("AWSS3V4SignerType", "AWS4SignerType")


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
        bucket_details.check_names(details, (*DETAILS, *IGNORED_DETAILS), DETAILS)
        for key in _REQUIRED:
            if not details.get(key, "").strip():
                raise StoreDefinitionError(
                    f"details of the S3 store have no {key}",
                    f"send details[0].{key}",
                    parameter=f"details[0].{key}",
                )
        if (signer := details.get("s3signer")) not in (None, *_SIGNERS):
            raise StoreDefinitionError(
                f"signer is not supported: {str(signer)[:40]}",
                f"use {_SIGNERS[0]}, or omit s3signer",
                parameter="details[0].s3signer",
            )
        for key in KEYS:
            bucket_details.check_key(key, details[key])
        ca_pem = details.get("cacertificate") or None
        if ca_pem is not None:
            bucket_details.check_certificates(ca_pem)
        capacity = details.get("capacitybytes")
        bucket = evolve(
            _address(details),
            region=bucket_details.read_region(details.get("region", "")),
            ca_pem=ca_pem,
            access_key=details["accesskey"],
            secret_key=details["secretkey"],
        )
        return cls(
            bucket,
            None if capacity is None else bucket_details.read_capacity(capacity),
            bucket_details.read_flag(details, "publiclinks", True),
        )


def _address(details: Mapping[str, str]) -> S3Bucket:
    """Return the bucket at `endpoint`, which is HOST[:PORT] or a URL without a path."""
    endpoint = details["endpoint"].strip().rstrip("/")
    scheme, separator, rest = endpoint.partition("://")
    is_tls = bucket_details.read_flag(details, "usehttps", True)
    if not separator:
        scheme, rest = ("https" if is_tls else "http"), endpoint
    elif details.get("usehttps") is not None and is_tls != (scheme == "https"):
        raise StoreDefinitionError(
            f"usehttps contradicts the endpoint {endpoint[:200]}",
            "omit usehttps",
            parameter="details[0].usehttps",
        )
    if "/" in rest:
        raise StoreDefinitionError(
            f"endpoint is not HOST[:PORT]: {endpoint[:200]}",
            "name only the server",
            parameter="details[0].endpoint",
        )
    try:
        return parse_bucket_url(f"{scheme}://{rest}/{details['bucket'].strip()}")
    except S3BucketError as error:
        raise StoreDefinitionError(error.message, parameter=f"details[0].{error.parameter}") from None


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

    def replace(
        self,
        connection: Connection,
        store_id: int,
        bucket: S3Bucket,
        settings_of: Callable[[StoreBucketRow], tuple[int | None, bool]],
    ) -> None:
        """Store other keys of a bucket, sealed, and its other settings.

        Raises: NotFoundError when the store was deleted meanwhile.
        """
        row = store_buckets.of_store(connection, store_id)
        if row is None:
            raise NotFoundError(f"image store {store_id} has no bucket")
        capacity_bytes, has_public_links = settings_of(row)
        store_buckets.update(
            connection,
            row.id,
            access_key=bucket.access_key,
            sealed_secret=self._seal.close(bucket.secret_key),
            region=bucket.region,
            ca_pem=bucket.ca_pem,
            capacity_bytes=capacity_bytes,
            has_public_links=has_public_links,
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
