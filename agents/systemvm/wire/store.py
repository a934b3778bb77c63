# SPDX-License-Identifier: Apache-2.0
"""Where a store is: the part of storage's messages that those of consoles need, too.

A CPVM imports no more of them: the others take 0.8 MB.
"""

from __future__ import annotations

from attrs import frozen

from systemvm.wire.s3_bucket import S3Bucket


@frozen
class Store:
    """An NFS export or a bucket. The mount point of the first is `/mnt/SecStorage/` + the version-3 UUID of
    `server:path`.
    """

    server: str  # an IP address; empty for a bucket, so that an older agent rejects it
    path: str  # empty for a bucket
    nfs_version: str = "4.2"
    mount_options: str = ""  # further options, with commas: `nolock,nconnect=4`
    read_only: bool = False  # nothing is written to it, not even a directory
    s3: S3Bucket | None = None  # instead of an export (protocol 3)

    @classmethod
    def of_bucket(cls, bucket: S3Bucket, *, read_only: bool = False) -> Store:
        return cls("", "", read_only=read_only, s3=bucket)

    @property
    def location(self) -> str:
        """Where it is, for people and as an identity.

        >>> Store("10.12.0.2", "/export/secondary").location
        '10.12.0.2:/export/secondary'
        """
        return f"{self.server}:{self.path}" if self.s3 is None else self.s3.url
