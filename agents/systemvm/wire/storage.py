# SPDX-License-Identifier: Apache-2.0
"""Messages about secondary storage and templates, between daemon and SSVMs."""

from __future__ import annotations

import enum

from attrs import field, frozen

from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.source_access import SourceAccess
from systemvm.wire.source_networks import SsvmAddress
from systemvm.wire.store import Store as Store

STORAGE_SETUP = "storage.setup"  # daemon → agent: mount a store; idempotent
STORAGE_STATS = "storage.stats"  # daemon → agent
STORAGE_JOBS = "storage.jobs"  # daemon → agent: the downloads that it has (protocol 2)
STORAGE_SWEEP = "storage.sweep"  # daemon → agent: remove what other jobs have left (protocol 3)
TEMPLATE_LIST = "template.list"  # daemon → agent: what is on a store, by pages (protocol 2)
TEMPLATE_DOWNLOAD = "template.download"  # daemon → agent: get or start, idempotent by job_id
TEMPLATE_COPY = "template.copy"  # daemon → agent: get or start, idempotent by job_id (protocol 3)
TEMPLATE_ABORT = "template.abort"  # daemon → agent
TEMPLATE_DELETE = "template.delete"  # daemon → agent
TEMPLATE_RESERVE = "template.reserve"  # agent → daemon: room for an image in its account's limit (protocol 3)
TEMPLATE_PROGRESS = "template.progress"  # agent → daemon, notification; a newer one replaces it
TEMPLATE_FINISHED = "template.finished"  # agent → daemon, a call: repeated until answered

STORAGE_BROWSE = "storage.browse"  # daemon → agent: a directory of a store (protocol 3)
TEMPLATE_QUARANTINE = "template.quarantine"  # daemon → agent: kept for a week out of sight (protocol 3)
STORAGE_RELEASE = "storage.release"  # daemon → agent: unmount a store that the zone has no more (protocol 3)

#: Versions of NFS that a store can be mounted with.
NFS_VERSIONS = ("3", "4", "4.0", "4.1", "4.2")

#: How many downloads an SSVM runs at a time; it answers `busy` to another one. Those that wait for a store
#: that does not answer are not among them.
MAX_ACTIVE_DOWNLOADS = 8
#: How many an SSVM has in all, with those that wait for their store.
MAX_DOWNLOADS = 64


class ImageFormat(enum.Enum):
    """CloudStack's names of image formats that this release understands."""

    QCOW2 = "QCOW2"
    RAW = "RAW"
    ISO = "ISO"
    VHD = "VHD"
    VHDX = "VHDX"
    VMDK = "VMDK"
    OVA = "OVA"
    TAR = "TAR"

    @property
    def extension(self) -> str:
        return self.value.lower()


class DownloadState(enum.Enum):
    """CloudStack's storage states of a template (VMTemplateStorageResourceAssoc.java)."""

    NOT_DOWNLOADED = "NOT_DOWNLOADED"
    DOWNLOAD_IN_PROGRESS = "DOWNLOAD_IN_PROGRESS"
    DOWNLOADED = "DOWNLOADED"
    DOWNLOAD_ERROR = "DOWNLOAD_ERROR"

    @property
    def ended(self) -> bool:
        return self in (DownloadState.DOWNLOADED, DownloadState.DOWNLOAD_ERROR)


@frozen
class StoreStats:
    capacity_bytes: int
    used_bytes: int


@frozen
class StorageSweep:
    """The jobs that the daemon still wants of an SSVM on a store; it removes the files of all others."""

    store: Store
    wanted_job_ids: list[str]


@frozen
class TransferRates:
    """How fast an SSVM receives; None is no limit."""

    download_bytes_per_s: int | None = None  # each download
    total_bytes_per_s: int | None = None  # all downloads of the SSVM together


@frozen
class DownloadRequest:
    """All that an SSVM needs to download one template or ISO to a store."""

    job_id: str
    request_id: str
    template_id: int
    account_id: int
    unique_name: str
    description: str
    url: str = field(repr=False)
    format: ImageFormat
    store: Store
    max_size_bytes: int
    checksum: str | None = None  # `{ALG}hex`; wire/checksum.py reads it
    source_ca_pem: str | None = None  # trusted besides the system's roots
    public: bool = False
    hvm: bool = True
    denied_networks: list[str] = field(factory=list)  # CIDRs of this cloud's own, besides the boot arguments'
    access: SourceAccess = field(factory=SourceAccess)
    arch: str = "amd64"  # which image of a registry it is
    #: The SSVM of another zone that `url` is a link of: opened for this download, and for nothing else. While
    #: it is away the download waits. A later request for the job with the same `content_id` can name another.
    source_server: SsvmAddress | None = None
    #: What `url` returns, when another URL can return the same: a journal with it is continued.
    content_id: str | None = None
    quota_bytes: int | None = None  # what the account can still store; None is no limit (protocol 3)
    rates: TransferRates = field(factory=TransferRates)  # a later request for a job changes them (protocol 3)


@frozen
class QuotaReservation:
    """The size of a job's image, which its account's limit must have room for (protocol 3)."""

    job_id: str
    size_bytes: int


@frozen
class PublishedFile:
    """Where a template's file is on a store: template/tmpl/ACCOUNT/TEMPLATE/NAME.

    The numbers are those of the place, which an adopted template keeps.
    """

    account_id: int
    template_id: int
    name: str


@frozen
class CopyRequest:
    """All that an SSVM needs to copy one template or ISO from one store to another.

    Or to make a template from a snapshot, perhaps on the same store; then it has a chain and no file.
    """

    job_id: str
    request_id: str
    template_id: int
    account_id: int
    unique_name: str
    description: str
    format: ImageFormat
    source: Store
    source_file: PublishedFile | None
    store: Store
    virtual_size_bytes: int
    source_checksum: str | None = None  # `{ALG}hex` of the source's file, if it is known
    checksum: str | None = None  # of the URL's file; the copy's properties keep it
    public: bool = False
    hvm: bool = True
    source_chain: StoredChain | None = None


@frozen
class DownloadError:
    """Why a download ended: `code` is stable, `message` says what was wrong, `hint` what to do."""

    code: str
    message: str
    hint: str = ""


@frozen
class DownloadStep:
    """What a download did, and when by the SSVM's clock."""

    text: str
    at_unix_s: float


@frozen
class DownloadStatus:
    """A download as its SSVM sees it; sent as progress, at the end, and as the answer to a request."""

    job_id: str
    state: DownloadState
    received_bytes: int = 0
    total_bytes: int | None = None
    error: DownloadError | None = None
    install_path: str | None = None  # relative to the store: template/tmpl/<account>/<id>/<file>
    physical_size_bytes: int | None = None
    virtual_size_bytes: int | None = None
    checksum: str | None = None  # of the file as downloaded
    image_checksum: str | None = None  # of the file on the store, if it was computed
    steps: list[DownloadStep] = field(factory=list)  # so far; `systemvm trace` shows them
    waits_for_store: bool = False  # for a store that is busy or does not answer: it does not count as active
    waits_for_turn: bool = False  # behind other large ones: it does not count as active either (protocol 3)
    waits_for_source: bool = False  # for the SSVM of another zone, nor does this one (protocol 3)

    @property
    def needs_no_slot(self) -> bool:
        """Whether it does not count as active."""
        return self.waits_for_store or self.waits_for_turn or self.waits_for_source

    @property
    def percent(self) -> int:
        if self.state is DownloadState.DOWNLOADED:
            return 100
        if not self.total_bytes:
            return 0
        return min(100, 100 * self.received_bytes // self.total_bytes)


@frozen
class DownloadAbort:
    job_id: str


@frozen
class TemplateDelete:
    job_id: str
    store: Store
    account_id: int
    template_id: int


@frozen
class JobListing:
    """Every download that an SSVM has, also ended ones. An SSVM that cannot list them answers an error."""

    jobs: list[DownloadStatus]


@frozen
class TemplateListRequest:
    store: Store
    after: str = ""  # the `next` of the page before


@frozen
class ListedTemplate:
    account_id: int
    template_id: int
    job_id: str = ""  # that published it; empty when its properties cannot be read: it is there all the same
    unique_name: str = ""
    description: str = ""
    format: ImageFormat | None = None
    file_name: str = ""
    size_bytes: int = 0
    virtual_size_bytes: int = 0
    checksum: str = ""
    public: bool = False
    hvm: bool = True
    modified_unix_s: float = 0.0  # of its properties, by the server's clock
    problem: str = ""  # why it cannot be used as it is; empty when it can
    is_damaged: bool = False  # its properties are whole, and its file is missing or has another size


@frozen
class TemplateQuarantine:
    """A template that a job published, and that nothing refers to any more."""

    store: Store
    account_id: int
    template_id: int
    job_id: str


@frozen
class BrowseRequest:
    store: Store
    path: str = ""  # relative to the store
    after: str = ""  # the `next` of the page before


@frozen
class StoreObject:
    name: str
    is_directory: bool
    size_bytes: int
    modified_unix_s: float


@frozen
class StoreObjects:
    """A page of the entries of a directory, in order of their names."""

    objects: list[StoreObject]
    next: str = ""  # empty at the end


@frozen
class TemplateListing:
    """A page of a store's templates, in order. One that cannot be read is an error, never an empty page."""

    templates: list[ListedTemplate]
    next: str = ""  # empty at the end
