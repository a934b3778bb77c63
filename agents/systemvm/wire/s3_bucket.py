# SPDX-License-Identifier: Apache-2.0
"""A bucket of an S3 server that is an image store, and what reaches it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from attrs import field, frozen

from systemvm.service.errors import FailureCode, SystemVmError

_BUCKET = re.compile(r"[a-z0-9A-Z][a-z0-9A-Z._-]{1,62}")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


class S3BucketError(SystemVmError, ValueError):
    """An address that is not that of a bucket; `parameter` is the part of it that is wrong."""

    code = FailureCode.INVALID


@frozen
class S3Bucket:
    """A bucket by its path-style address. The keys travel in `storage.setup` only, other calls lack them."""

    host: str
    port: int
    name: str
    is_tls: bool = True
    region: str = ""  # of signatures; empty: that in the host's name, else us-east-1
    ca_pem: str | None = None  # trusted besides the system's roots
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)

    @property
    def authority(self) -> str:
        """Host and port, the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def authority_with_port(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_address(self) -> bool:
        """Whether the host is an address and not a name."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def url(self) -> str:
        """The address by which a store is identified; one bucket has one.

        >>> S3Bucket("s3.example.com", 443, "images").url
        'https://s3.example.com/images'
        """
        return f"{'https' if self.is_tls else 'http'}://{self.authority}/{self.name}"

    @property
    def has_keys(self) -> bool:
        return bool(self.access_key and self.secret_key)


def parse_bucket_url(url: str) -> S3Bucket:
    """Parse `https://HOST[:PORT]/BUCKET`.

    >>> parse_bucket_url("http://[fd00::2]:8080/images").url
    'http://[fd00::2]:8080/images'

    Raises: S3BucketError when it is something else.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or ""), parts.port
    except ValueError:
        raise S3BucketError(
            f"address of the bucket cannot be parsed: {url[:200]}", parameter="endpoint"
        ) from None
    bucket = parts.path.strip("/")
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment or "@" in parts.netloc:
        raise S3BucketError(
            f"address of the bucket is not https://HOST[:PORT]/BUCKET: {url[:200]}", parameter="endpoint"
        )
    if not (_HOST.fullmatch(host) or S3Bucket(host, 0, "").is_address) or port == 0:
        raise S3BucketError(
            f"endpoint of the bucket is not HOST[:PORT]: {parts.netloc[:200]}", parameter="endpoint"
        )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise S3BucketError(
            f"name of the bucket is not 2 to 63 letters, digits, dots, - and _: {bucket[:80]!r}",
            parameter="bucket",
        )
    is_tls = parts.scheme == "https"
    return S3Bucket(host.lower(), port or (443 if is_tls else 80), bucket, is_tls)
