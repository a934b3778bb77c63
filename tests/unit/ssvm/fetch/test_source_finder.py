# SPDX-License-Identifier: Apache-2.0
"""Which source is used next, and what it must be like."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import oci, source_finder
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.ssvm.fetch.document import DocumentReader, SourceDocument
from systemvm.ssvm.fetch.oci import OciDisk
from systemvm.ssvm.fetch.oci_manifest import Blob
from systemvm.ssvm.fetch.pinned_agent import ResponseHead
from systemvm.ssvm.fetch.redirects import HopObserver
from systemvm.ssvm.fetch.route import SourceRoute
from systemvm.ssvm.fetch.source import DownloadSource, SourcePolicy
from systemvm.ssvm.fetch.source_finder import SourceFinder
from systemvm.ssvm.limits import DEFAULT
from systemvm.wire import source_url
from systemvm.wire.source_access import SourceAccess, SourceCredentials
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.storage import DownloadRequest, ImageFormat, Store
from systemvm.wire.transfer_failure import TransferFailure

SHA256, SHA512 = "c" * 64, "d" * 128
V4 = "urn:ietf:params:xml:ns:metalink"
MIRRORS = [f"http://m{number}.example.test/x" for number in range(3)]
ROUTE = SourceRoute(ip_address("203.0.113.1"), 80)


class World:
    """Sources and documents by URL; `failing` are the mirrors that cannot be used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: dict[str, TransferFailure] = {}
        self.named: tuple[SourceUrl, ...] = ()
        self.documents: dict[str, bytes] = {}
        self.policies: list[SourcePolicy] = []
        self.logins: list[tuple[str, str | None]] = []  # what was sent to whom
        self.blob = Blob(f"sha256:{SHA256}", 7, is_tar=True)

        async def find(reactor: Any, url: SourceUrl, policy: SourcePolicy, *rest: Any) -> DownloadSource:
            self.policies.append(policy)
            self.logins.append((url.text, policy.authorization(url)))
            if url.text in self.failing:
                raise TransferError(self.failing[url.text], url.host)
            return DownloadSource(url, ROUTE, 7, mirrors=self.named)

        async def read(reader: DocumentReader, url: SourceUrl, **how: Any) -> SourceDocument:
            policy = how.get("policy") or reader.policy
            assert not policy.has_checksum, "nothing but TLS protects it"
            self.logins.append((url.text, policy.authorization(url)))
            return SourceDocument(url, ResponseHead(200, {}), self.documents[url.text], url.is_tls)

        async def find_disk(reader: DocumentReader, reference: Any, arch: str) -> OciDisk:
            url = reference.url("blobs", self.blob.digest)
            return OciDisk(url, self.blob, evolve(reader.policy, has_checksum=True))

        monkeypatch.setattr(source_finder, "find_source", find)
        monkeypatch.setattr(DocumentReader, "read", read)
        monkeypatch.setattr(oci, "find_disk", find_disk)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def finder(url: str, checksum: str | None = None, login: SourceCredentials | None = None) -> SourceFinder:
    access = SourceAccess(credentials=login)
    request = DownloadRequest(
        "job", "r", 1, 2, "u", "d", url, ImageFormat.RAW, Store("10.12.0.2", "/x"), 1 << 30,
        checksum=checksum, access=access,
    )  # fmt: skip
    policy = SourcePolicy(AddressPolicy(), None, bool(checksum), access)
    return SourceFinder(None, request, policy, DEFAULT, HopObserver())


def found(using: SourceFinder) -> Any:
    outcome: list[Any] = []
    finding = Deferred.fromCoroutine(using.find())
    finding.addErrback(lambda failure: failure.value).addCallback(outcome.append)
    return outcome[0]


def with_metalink(world: World, url: str, *mirrors: str, more: str = "") -> SourceFinder:
    urls = "".join(f"<url>{mirror}</url>" for mirror in mirrors)
    text = f'<metalink xmlns="{V4}"><file name="x">{more}{urls}</file></metalink>'
    world.documents[url] = text.encode()
    return finder(url)


def broken(code: TransferFailure = TransferFailure.TRUNCATED) -> TransferError:
    return TransferError(code, "broke off")


LINK = "https://links.example.test/x.meta4"
HASH = f'<hash type="sha-256">{SHA256}</hash>'


def test_the_mirror_that_failed_least_often_is_next(sources: World) -> None:
    using = with_metalink(sources, LINK, *MIRRORS, more=HASH)
    hosts = []
    for _ in range(5):
        source = found(using)
        hosts.append(source.url.host[:2])
        assert (source.checksum, source.has_mirrors) == (f"{{SHA-256}}{SHA256}", True)
        using.note(broken())
    assert hosts == ["m0", "m1", "m2", "m0", "m1"]


def test_a_mirror_that_cannot_continue_has_not_failed(sources: World) -> None:
    using = with_metalink(sources, LINK, *MIRRORS, more=HASH)
    found(using)
    using.note(broken())
    assert found(using).url.host[:2] == "m1"
    using.note(broken(TransferFailure.SOURCE_CHANGED))
    assert found(using).url.host[:2] == "m1"


def test_mirrors_that_cannot_be_used_are_passed_over(sources: World) -> None:
    sources.failing = {MIRRORS[0]: TransferFailure.HTTP_STATUS, MIRRORS[1]: TransferFailure.URL_DENIED}
    using = with_metalink(sources, LINK, *MIRRORS)
    assert found(using).url.host[:2] == "m2"
    assert not using.can_replace(broken(TransferFailure.STORE_FULL))
    sources.failing = dict.fromkeys(MIRRORS, TransferFailure.HTTP_STATUS)
    error = found(with_metalink(sources, LINK, *MIRRORS))
    assert (error.code, error.message) == (TransferFailure.HTTP_STATUS, "m0.example.test")


def test_wrong_bytes_of_a_mirror_are_asked_of_another_one_once(sources: World) -> None:
    using = with_metalink(sources, LINK, *MIRRORS[:2], more=HASH)
    wrong, replaced = broken(TransferFailure.CHECKSUM_MISMATCH), []
    for _ in range(2):
        found(using)
        using.note(wrong)
        replaced.append(using.can_replace(wrong))
    assert replaced == [True, False]


def test_a_mirror_of_another_size_is_not_used(sources: World) -> None:
    error = found(with_metalink(sources, LINK, MIRRORS[0], more="<size>8</size>"))
    assert error.code is TransferFailure.LENGTH_WRONG


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_checksum_that_came_without_tls_permits_no_insecure_redirect(sources: World, scheme: str) -> None:
    link = LINK.replace("https", scheme)
    assert found(with_metalink(sources, link, MIRRORS[0], more=HASH)).checksum
    assert sources.policies[-1].has_checksum is (scheme == "https")


def test_a_server_names_mirrors_for_a_file_with_a_checksum(sources: World) -> None:
    sources.named = (with_metalink(sources, LINK, MIRRORS[1])._first,)  # type: ignore[assignment]
    for checksum, expected in ((SHA256, "links.example.test"), (None, "m0.example.test")):
        using = finder(MIRRORS[0], checksum)
        found(using)
        using.note(broken())
        assert found(using).url.host == expected


@pytest.mark.parametrize("named_by", ["metalink", "server", "checksum_file"])
def test_a_login_goes_to_no_mirror_of_another_origin(sources: World, named_by: str) -> None:
    """Whoever names a mirror would receive the login of the registered URL there."""
    registered, elsewhere = "https://links.example.test/x.img", "https://m.example.test/x.img"
    checksum: str | None = SHA256
    if named_by == "metalink":
        registered += ".meta4"
        with_metalink(sources, registered, elsewhere, more=HASH)
    elif named_by == "server":
        sources.named = (source_url.parse(elsewhere),)
    else:
        checksum = f"{elsewhere}.sha256"
        sources.documents[checksum] = f"{SHA256}  x.img".encode()
    using = finder(registered, checksum, SourceCredentials("me", "secret"))
    for _ in range(2):
        found(using)
        using.note(broken())
    sent = dict(sources.logins)
    assert sent[registered] == "Basic bWU6c2VjcmV0"
    assert {login for url, login in sent.items() if url.startswith("https://m.")} == {None}


def test_the_digest_of_a_disk_in_a_registry_must_hold(sources: World) -> None:
    using = finder("oci://r.example.test/vm:1")
    source = found(using)
    assert (source.checksum, source.member_directory, source.total_bytes) == (
        f"{{SHA-256}}{SHA256}",
        "disk/",
        7,
    )
    assert sources.policies[-1].has_checksum
    sources.blob = evolve(sources.blob, digest=f"sha256:{'e' * 64}")
    assert found(using).code is TransferFailure.SOURCE_CHANGED


def test_a_given_checksum_counts_beside_that_of_a_registry(sources: World) -> None:
    assert found(finder("oci://r.example.test/vm:1", SHA512)).checksum == SHA512
    assert found(finder("oci://r.example.test/vm:1", "e" * 64)).code is TransferFailure.CHECKSUM_MISMATCH
