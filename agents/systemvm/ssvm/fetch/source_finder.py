# SPDX-License-Identifier: Apache-2.0
"""Finds the source of a download, whatever its URL names: a file, a Metalink, an image in a registry.

`find` is called for each connection. Of several mirrors the one that failed least often is taken, so
a mirror that fails at any byte is replaced by another.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import unquote

from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import metalink, oci
from systemvm.ssvm.fetch.document import DocumentReader
from systemvm.ssvm.fetch.expected_checksum import ExpectedChecksum, expected_checksum
from systemvm.ssvm.fetch.redirects import HopObserver, find_source
from systemvm.ssvm.fetch.source import DownloadSource, SourcePolicy
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire import checksum, oci_reference, source_url
from systemvm.wire.checksum import Checksum
from systemvm.wire.oci_reference import OciReference
from systemvm.wire.source_url import SourceUrl, SourceUrlError
from systemvm.wire.storage import DownloadRequest
from systemvm.wire.transfer_failure import TransferFailure

METALINKS = (".metalink", ".meta4")
#: Where a containerDisk has its disk.
DISK_DIRECTORY = "disk/"
#: What another copy of the same file can do better.
_FAULTS_OF_MIRRORS = frozenset(
    {
        TransferFailure.ARCHIVE_REFUSED,
        TransferFailure.CHECKSUM_MISMATCH,
        TransferFailure.CONNECTION_LOST,
        TransferFailure.CONTENT_ENCODING,
        TransferFailure.DECOMPRESSION,
        TransferFailure.FORMAT_MISMATCH,
        TransferFailure.HTTP_INVALID,
        TransferFailure.HTTP_STATUS,
        TransferFailure.HTTP_UNAVAILABLE,
        TransferFailure.LENGTH_UNKNOWN,
        TransferFailure.LENGTH_WRONG,
        TransferFailure.PIECE_DAMAGED,
        TransferFailure.REDIRECTS,
        TransferFailure.STALLED,
        TransferFailure.TLS_FAILED,
        TransferFailure.TOO_LARGE,
        TransferFailure.TRUNCATED,
    }
)


class SourceFinder:
    """The sources of one job.

    Raises: TransferError when the URL is not valid.
    """

    def __init__(
        self,
        reactor: Any,
        request: DownloadRequest,
        policy: SourcePolicy,
        limits: TransferLimits,
        observer: HopObserver,
    ) -> None:
        self._reactor = reactor
        self._request = request
        self._limits = limits
        self._observer = observer
        self._first = _parse(request.url)
        registered = self._first.registry if isinstance(self._first, OciReference) else self._first
        policy = evolve(policy, login_origin=registered.origin)
        # nothing protects a document but TLS, so no redirect of it leaves TLS
        self._reader = DocumentReader(reactor, evolve(policy, has_checksum=False), limits, observer)
        self._policy = policy
        self._mirrors: tuple[SourceUrl, ...] = ()
        self._failures: Counter[SourceUrl] = Counter()
        self._used: SourceUrl | None = None
        self._size_bytes: int | None = None
        self._pieces: metalink.Pieces | None = None
        self._expected: ExpectedChecksum | None = None
        self._digest: str | None = None  # of the disk in a registry

    async def find(self) -> DownloadSource:
        """Return the source to connect to now.

        Raises: TransferError when no mirror can be used; it is that of the first one.
        """
        if isinstance(self._first, OciReference):
            return await self._find_disk(self._first)
        if not self._mirrors:
            await self._find_mirrors(self._first)
        failed: TransferError | None = None
        for mirror in sorted(self._mirrors, key=lambda each: self._failures[each]):  # stable: in their order
            self._used = mirror
            try:
                source = await self._find_at(mirror)
            except TransferError as error:
                self.note(error)
                failed = failed or error
                continue
            self._add_mirrors(source.mirrors)
            return evolve(source, has_mirrors=len(self._mirrors) > 1)
        raise failed or TransferError(TransferFailure.URL_INVALID, "there is no mirror")

    def note(self, error: TransferError) -> None:
        """Note why the last source is of no use any more: one that failed less often is used next.

        One that only could not continue what another began has not failed.
        """
        if self._used is not None and error.code is not TransferFailure.SOURCE_CHANGED:
            self._failures[self._used] += 1

    def can_replace(self, error: TransferError) -> bool:
        """Whether `error`, which was noted, can be this mirror's fault, and another has not failed yet."""
        others = len(self._mirrors) > 1 and any(not self._failures[each] for each in self._mirrors)
        return others and error.code in _FAULTS_OF_MIRRORS

    async def _find_mirrors(self, first: SourceUrl) -> None:
        if not first.path.lower().endswith(METALINKS):
            self._expected = await self._read_checksum(_file_name(first))
            self._mirrors = (first,)
            return
        document = await self._reader.read(first)
        found = metalink.parse(document.body)
        given = await self._read_checksum(found.name or _file_name(first))
        of_metalink = ExpectedChecksum(
            None if found.checksum is None else str(found.checksum), document.was_always_tls
        )
        self._expected = _combine(given, of_metalink)
        self._size_bytes, self._pieces = found.size_bytes, found.pieces
        self._mirrors = found.mirrors

    def _add_mirrors(self, named: tuple[SourceUrl, ...]) -> None:
        """Use what a server names, too: with a checksum only, which tells the file from another one."""
        if self._expected is not None and self._expected.text is not None and len(self._mirrors) == 1:
            self._mirrors = tuple(dict.fromkeys((*self._mirrors, *named)))

    async def _find_at(self, mirror: SourceUrl) -> DownloadSource:
        expected = self._expected or ExpectedChecksum()
        policy = evolve(self._policy, has_checksum=expected.is_trusted)
        source = await find_source(self._reactor, mirror, policy, self._limits, self._observer)
        if None not in (self._size_bytes, source.total_bytes) and source.total_bytes != self._size_bytes:
            raise TransferError(
                TransferFailure.LENGTH_WRONG,
                f"{source.url.origin} has a file of {source.total_bytes} bytes, the Metalink announces"
                f" {self._size_bytes}",
                "compare the file with the publisher's",
            )
        # without a checksum of the whole, another mirror could not continue
        pieces = self._pieces if expected.text is not None else None
        known = None if pieces is None else pieces.for_mover(source.total_bytes)
        return evolve(source, checksum=expected.text, pieces=known)

    async def _find_disk(self, reference: OciReference) -> DownloadSource:
        disk = await oci.find_disk(self._reader, reference, self._request.arch)
        if self._digest not in (None, disk.blob.digest):
            raise TransferError(
                TransferFailure.SOURCE_CHANGED,
                "the tag in the registry names another image by now",
                "register it with a digest, or retry the template",
            )
        self._digest = disk.blob.digest
        of_blob = ExpectedChecksum(str(disk.blob.checksum), is_trusted=True)
        if self._expected is None:
            given = await self._read_checksum(reference.repository.rpartition("/")[2])
            self._expected = _combine(given, of_blob)
        source = await find_source(self._reactor, disk.url, disk.policy, self._limits, self._observer)
        directory = DISK_DIRECTORY if disk.blob.is_tar else None
        total = disk.blob.size_bytes
        return evolve(source, checksum=self._expected.text, total_bytes=total, member_directory=directory)

    async def _read_checksum(self, file_name: str) -> ExpectedChecksum:
        return await expected_checksum(self._reader, self._request.checksum, self._request.access, file_name)


def _parse(url: str) -> SourceUrl | OciReference:
    try:
        return oci_reference.parse(url) if oci_reference.is_oci(url) else source_url.parse(url)
    except SourceUrlError as error:
        raise TransferError.of_url(error) from None


def _file_name(url: SourceUrl) -> str:
    return unquote(url.path.rpartition("/")[2])


def _combine(given: ExpectedChecksum, found: ExpectedChecksum) -> ExpectedChecksum:
    """Return the checksum to verify: what the user gave counts, and must not contradict what was found.

    Raises: TransferError when they are of one algorithm and differ.
    """
    if given.text is None or found.text is None:
        return found if given.text is None else given
    ours, theirs = _checksum(given.text), _checksum(found.text)
    if ours.algorithm is theirs.algorithm and ours != theirs:
        raise TransferError(
            TransferFailure.CHECKSUM_MISMATCH,
            f'checksum "{theirs}" didn\'t match the given value, "{ours}"',
            "compare the checksum with the publisher's: the file can have changed since",
        )
    return given


def _checksum(text: str) -> Checksum:
    try:
        return checksum.parse(text)
    except ValueError as error:
        raise TransferError(TransferFailure.CHECKSUM_INVALID, str(error), "register it again") from None
