# SPDX-License-Identifier: Apache-2.0
"""A change of a bucket that is an image store: other keys, which are checked before they are taken."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen
from twisted.logger import Logger

from systemvm.management.image_stores import bucket_details
from systemvm.management.image_stores.bucket_details import CHANGEABLE_DETAILS, KEYS
from systemvm.management.image_stores.buckets import StoreKeys
from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.image_stores.every_ssvm import EverySsvm
from systemvm.management.image_stores.inspection import NoSsvmError
from systemvm.management.state.database import Database
from systemvm.management.state.store_buckets import StoreBucketRow
from systemvm.management.state.zones import ImageStore
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import STORAGE_SETUP, Store, StoreStats


@frozen
class BucketChange:
    """What changes; None stays as it is."""

    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None
    ca_pem: str | None = None  # empty: none
    capacity_bytes: int | None = None  # 0: as much as it takes
    has_public_links: bool | None = None

    @classmethod
    def of_details(cls, details: Mapping[str, str]) -> BucketChange:
        """Read `details` of updateImageStore.

        Raises: StoreDefinitionError when one cannot change or is invalid; it contains no key.
        """
        bucket_details.check_names(details, CHANGEABLE_DETAILS, CHANGEABLE_DETAILS)
        given = [key for key in KEYS if key in details]
        if len(given) == 1:
            [missing] = set(KEYS) - set(given)
            raise StoreDefinitionError(
                f"{given[0]} alone cannot be replaced: {missing} is missing",
                f"send details[0].{missing} too",
                parameter=f"details[0].{missing}",
            )
        keys = {key: bucket_details.check_key(key, details[key]) for key in given}
        ca_pem, region = details.get("cacertificate"), details.get("region")
        capacity, links = details.get("capacitybytes"), details.get("publiclinks")
        return cls(
            keys.get("accesskey"),
            keys.get("secretkey"),
            None if region is None else bucket_details.read_region(region),
            bucket_details.check_certificates(ca_pem) if ca_pem else ca_pem,
            None if capacity is None else bucket_details.read_capacity(capacity, 0),
            None if links is None else bucket_details.read_flag(details, "publiclinks", True),
        )

    @property
    def needs_check(self) -> bool:
        """Whether the server can refuse it."""
        return any(each is not None for each in (self.access_key, self.region, self.ca_pem))

    @property
    def has_keys(self) -> bool:
        return self.access_key is not None

    def applied_to(self, bucket: S3Bucket) -> S3Bucket:
        """Return a bucket with the change."""
        return evolve(
            bucket,
            access_key=bucket.access_key if self.access_key is None else self.access_key,
            secret_key=bucket.secret_key if self.secret_key is None else self.secret_key,
            region=bucket.region if self.region is None else self.region,
            ca_pem=bucket.ca_pem if self.ca_pem is None else self.ca_pem or None,
        )

    def settings_of(self, row: StoreBucketRow) -> tuple[int | None, bool]:
        """Return capacity and links with the change."""
        capacity = row.capacity_bytes if self.capacity_bytes is None else self.capacity_bytes or None
        links = row.has_public_links if self.has_public_links is None else self.has_public_links
        return capacity, links


class BucketChanger:
    """Has the SSVMs of a zone check what is new, and takes it then."""

    _log = Logger()

    def __init__(self, database: Database, keys: StoreKeys, ssvms: EverySsvm) -> None:
        self._database = database
        self._keys = keys
        self._ssvms = ssvms

    async def change(self, store: ImageStore, change: BucketChange) -> None:
        """Change a bucket. With other keys every SSVM that is Up uses them first; its jobs go on with them.

        Raises: NoSsvmError when none can check them, RpcError when the server refuses them: the keys from
            before stay then, everywhere.
        """
        before = await self._database.read(self._keys.complete, store)
        if before.s3 is None:
            raise StoreDefinitionError(
                f"image store {store.name} is not a bucket", "omit details", parameter="details"
            )
        bucket = change.applied_to(before.s3)
        after = evolve(before, s3=bucket)
        if change.needs_check:
            await self._check(store, before, after)
        await self._database.run(self._keys.replace, store.id, bucket, change.settings_of)
        if change.needs_check:
            await self._send(store, after)  # one that has connected meanwhile has got the old ones

    async def _check(self, store: ImageStore, before: Store, after: Store) -> None:
        try:
            answers = await self._ssvms.call(store, STORAGE_SETUP, after, StoreStats)
        except RpcError:
            await self._send(store, before)
            raise
        if not answers:
            raise NoSsvmError(
                f"keys of image store {store.name} cannot be checked: no secondary storage VM is Up",
                "wait until the SSVM of its zone is Up; see listSystemVms",
            )

    async def _send(self, store: ImageStore, wire: Store) -> None:
        try:
            await self._ssvms.call(store, STORAGE_SETUP, wire, StoreStats)
        except RpcError as error:  # they are sent again when it is measured, and at each connection
            self._log.info("{store} is not set up again yet: {error}", store=store.name, error=error)
