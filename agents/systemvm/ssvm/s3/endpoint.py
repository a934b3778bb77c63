# SPDX-License-Identifier: Apache-2.0
"""Where a store's bucket is: `https://host:port`, the bucket in the path, and the region of signatures."""

from __future__ import annotations

import re

from attrs import frozen

from systemvm.ssvm.s3.signing import encode_path
from systemvm.wire.s3_bucket import S3Bucket

DEFAULT_REGION = "us-east-1"
_AMAZON = re.compile(r"s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com")


@frozen
class S3Endpoint:
    """A bucket of a server; the path-style address is understood by Amazon, Swift, Ceph and MinIO."""

    is_tls: bool
    host: str
    port: int
    bucket: str
    region: str = DEFAULT_REGION

    @property
    def authority(self) -> str:
        """The header Host: with a port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"

    def path(self, key: str) -> str:
        """Return the encoded path of an object; that of the bucket for an empty key."""
        return encode_path(f"/{self.bucket}/{key}" if key else f"/{self.bucket}")


def endpoint_of(bucket: S3Bucket) -> S3Endpoint:
    """Return the endpoint of a store's bucket."""
    region = bucket.region or region_of(bucket.host)
    return S3Endpoint(bucket.is_tls, bucket.host, bucket.port, bucket.name, region)


def region_of(host: str) -> str:
    """Return the region in the name of an endpoint of Amazon, else the default that other servers have."""
    found = _AMAZON.fullmatch(host.lower())
    return found[1] if found else DEFAULT_REGION
