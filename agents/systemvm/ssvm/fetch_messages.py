# SPDX-License-Identifier: Apache-2.0
"""The messages between agent and fetch over /run/systemvm/fetch.sock."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from systemvm.ssvm.mover_messages import MoverResult
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import DownloadRequest, DownloadStatus, PublishedFile

HELLO = "fetch.hello"  # agent → fetch
START = "fetch.start"  # agent → fetch: get or start
STOP = "fetch.stop"  # agent → fetch: stop and forget
BUCKET = "fetch.bucket"  # agent → fetch: an operation on a store that is a bucket
RESERVE = "fetch.reserve"  # fetch → agent: QuotaReservation, before the first byte of a file of this size
PROGRESS = "fetch.progress"  # fetch → agent, notification
FINISHED = "fetch.finished"  # fetch → agent, a call: transferred, or failed

MAX_CA_CHARACTERS = 64 * 1024


@frozen
class FetchHello:
    """`instance` changes when fetch is restarted, which ends its jobs."""

    instance: str
    used_job_ids: list[str]  # those whose directories are in use


@frozen
class FetchStatus:
    """The state of a job: running, failed, or transferred.

    `moved` is set in the last case, to be published.
    """

    status: DownloadStatus
    moved: MoverResult | None = None

    @property
    def ended(self) -> bool:
        return self.moved is not None or self.status.state.ended


@frozen
class DeniedNetwork:
    """A network of the zone, and its name for messages."""

    cidr: str
    what: str


@frozen
class CopyOrigin:
    """The file that is copied: on a mounted store, or in a bucket."""

    mount_id: str
    file: PublishedFile
    bucket: S3Bucket | None = None  # with its keys


@frozen
class BucketCall:
    """An operation of the store's helper, on a bucket."""

    bucket: S3Bucket  # with its keys
    method: str
    params: dict[str, Any]


@frozen
class StartRequest:
    """The download, and what fetch cannot find out: the SSVM that owns the job, and forbidden networks."""

    owner: str
    download: DownloadRequest
    denied: list[DeniedNetwork] = field(factory=list)
    opened: list[str] = field(factory=list)  # CIDRs of these that the operator permits
    bucket: S3Bucket | None = None  # that the image goes to, with its keys; None: the download's store
    origin: CopyOrigin | None = None  # instead of the URL
