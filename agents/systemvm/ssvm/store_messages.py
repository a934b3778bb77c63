# SPDX-License-Identifier: Apache-2.0
"""The messages of the store and mount helpers: numbers and checked names, never paths."""

from __future__ import annotations

import hashlib
import re
import uuid

from attrs import field, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.storage import ImageFormat, PublishedFile, Store
from systemvm.wire.transfer_failure import TransferFailure

MAKE = "store.make"  # fetch: a job's directory
DISCARD = "store.discard"  # fetch or agent
COPY = "store.copy"  # agent: the file of a published template to a job's directory
FIND = "store.find"  # agent: was this job published?
PUBLISH = "store.publish"  # agent
DELETE = "store.delete"  # agent
STATS = "store.stats"  # agent
SWEEP = "store.sweep"  # agent
LIST = "store.list"  # agent
BROWSE = "store.browse"  # agent
QUARANTINE = "store.quarantine"  # agent
PROBE = "store.probe"  # agent, of a bucket: can its keys write and delete?
OPEN = "store.open"  # serve: the file of a published template, for reading
OPEN_OBJECT = "store.open_object"  # serve: any other file of a store, for reading
MOUNT = "mount.mount"  # agent
UNMOUNT = "mount.unmount"  # agent
OPEN_SOURCES = "firewall.open_sources"  # agent, to the mount helper

MAX_ID = 2**63 - 1
_MOUNT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def mount_id(store: Store) -> str:
    """Return the directory of a store below /mnt/SecStorage: CloudStack's version-3 UUID without namespace.

    A bucket has such an id, too, and no directory.

    >>> from systemvm.wire.storage import Store
    >>> mount_id(Store("10.12.0.2", "/export/secondary"))[14]
    '3'
    """
    digest = hashlib.md5(store.location.encode(), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest, version=3))


def require_mount_id(text: str) -> str:
    if not _MOUNT_ID.fullmatch(text):
        raise _invalid(f"store id is not a UUID: {text[:80]!r}")
    return text


def require_name(text: str) -> str:
    """Return a job id or the name of a VM, if it can be a file name and nothing else."""
    if not _NAME.fullmatch(text):
        raise _invalid(f"id is not 1 to 64 letters, digits, - and _: {text[:80]!r}")
    return text


def require_file_name(text: str) -> str:
    """Return the name of a file in a template's directory; CloudStack's can have blanks and umlauts."""
    if not text or text in (".", "..") or "/" in text or "\0" in text or len(text.encode()) > 255:
        raise _invalid(f"file name is not 1 to 255 bytes without /: {text[:80]!r}")
    return text


def require_number(number: int) -> str:
    if not 0 < number <= MAX_ID:
        raise _invalid(f"account or template id is out of range: {number}, the range is 1 to {MAX_ID}")
    return str(number)


def _invalid(message: str) -> TransferError:
    return TransferError(TransferFailure.REQUEST_INVALID, message)


@frozen
class JobKey:
    """One job on one store; `owner` is the SSVM that runs it, so that no other SSVM sweeps it."""

    mount_id: str
    owner: str
    job_id: str


@frozen
class StoreCopyRequest:
    """The file of a published template on another store becomes the image of a job, or a snapshot does."""

    job: JobKey
    source_mount_id: str
    source: PublishedFile | None
    checksum: str | None = None  # what the file has, if it is known
    chain: StoredChain | None = None  # without a source: the snapshot


@frozen
class StoreCopyResult:
    size_bytes: int
    checksum: str  # of the file's bytes as they were read


@frozen
class CopyProgress:
    copied_bytes: int
    total_bytes: int


@frozen
class SourceServer:
    """An SSVM of another zone, which serves a link to an image."""

    address: str
    port: int


@frozen
class OpenSources:
    """All that is open for downloads inside of this cloud's own networks; the rest is closed."""

    allowed_sites: list[str] = field(factory=list)
    proxy: str = ""  # host:port
    servers: list[SourceServer] = field(factory=list)
    endpoints: list[SourceServer] = field(factory=list)  # of S3 stores


@frozen
class JobDirectory:
    """The directory of a job, whose descriptor comes with this message."""

    free_bytes: int  # on its store, for anyone but root
    kept_bytes: int = 0  # that an image from before takes there


@frozen
class FindRequest:
    mount_id: str
    job_id: str
    account_id: int
    template_id: int


@frozen
class PublishedTemplate:
    install_path: str
    size_bytes: int
    virtual_size_bytes: int
    checksum: str


@frozen
class FindResult:
    """`published` is None when this job has published nothing."""

    published: PublishedTemplate | None = None


@frozen
class PublishRequest:
    job: JobKey
    account_id: int
    template_id: int
    unique_name: str
    description: str
    format: ImageFormat
    public: bool
    hvm: bool
    virtual_size_bytes: int
    checksum: str


@frozen
class DeleteRequest:
    mount_id: str
    owner: str
    account_id: int
    template_id: int


@frozen
class QuarantineRequest:
    """Only what this job has published is moved: another template can have its place by now."""

    mount_id: str
    account_id: int
    template_id: int
    job_id: str


@frozen
class BrowseStoreRequest:
    mount_id: str
    path: str
    after: str = ""


@frozen
class StatsRequest:
    mount_id: str


@frozen
class SweepRequest:
    mount_id: str
    owner: str
    keep_job_ids: list[str] = field(factory=list)
    keep_resumable: bool = True  # jobs with a journal, too: nobody has said yet that they are not wanted


@frozen
class ListRequest:
    """The templates after `after`, which is ACCOUNT/TEMPLATE, in numerical order."""

    mount_id: str
    after: str = ""


@frozen
class OpenRequest:
    mount_id: str
    account_id: int
    template_id: int


@frozen
class OpenObjectRequest:
    """A path relative to the store, which an administrator chose."""

    mount_id: str
    path: str


@frozen
class OpenedImage:
    """An opened file of a store; `entity_tag` is another one after every change of the file."""

    size_bytes: int
    modified_unix_s: int
    entity_tag: str


@frozen
class MountRequest:
    store: Store


@frozen
class MountResult:
    mount_id: str
    options: str


def changes(
    request: JobKey | StoreCopyRequest | PublishRequest | DeleteRequest | QuarantineRequest | SweepRequest,
) -> frozenset[str]:
    """Return keys of what a call changes: two calls with a key in common must not run at the same time."""
    match request:
        case JobKey():
            return frozenset({f"job {request.mount_id} {request.job_id}"})
        case StoreCopyRequest(job=job):
            return frozenset({f"job {job.mount_id} {job.job_id}"})
        case PublishRequest(job=job):
            template = f"template {job.mount_id} {request.account_id}/{request.template_id}"
            return frozenset({f"job {job.mount_id} {job.job_id}", template})
        case DeleteRequest() | QuarantineRequest():
            return frozenset({f"template {request.mount_id} {request.account_id}/{request.template_id}"})
        case SweepRequest():
            return frozenset({f"sweep {request.mount_id}"})
