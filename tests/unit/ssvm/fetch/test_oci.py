# SPDX-License-Identifier: Apache-2.0
"""Images in registries: references, tokens, manifests, and the disk in a layer."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import oci, oci_manifest
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.ssvm.fetch.document import MAX_DOCUMENT_BYTES, DocumentReader, SourceDocument
from systemvm.ssvm.fetch.oci_manifest import Challenge
from systemvm.ssvm.fetch.pinned_agent import ResponseHead
from systemvm.ssvm.fetch.source import SourcePolicy
from systemvm.ssvm.formats.tar_member import TarMember
from systemvm.ssvm.limits import DEFAULT
from systemvm.wire import oci_reference
from systemvm.wire.source_access import SourceAccess, SourceCredentials
from systemvm.wire.source_url import SourceUrl, SourceUrlError
from systemvm.wire.transfer_failure import TransferFailure


def digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def descriptor(body: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(body), "size": len(body), **more}


TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
SMALL, LARGE = b"x", b"disk" * 10
MANIFEST = json.dumps({"layers": [descriptor(SMALL, TAR), descriptor(LARGE, TAR)]}).encode()
INDEX = json.dumps(
    {
        "manifests": [
            descriptor(b"other", oci_manifest.MANIFEST_TYPES[0], platform={"architecture": "arm64"}),
            descriptor(MANIFEST, oci_manifest.MANIFEST_TYPES[0], platform={"architecture": "amd64"}),
        ]
    }
).encode()


@pytest.mark.parametrize(
    ("text", "manifest"),
    [
        ("oci://r.example.test/a", "https://r.example.test/v2/a/manifests/latest"),
        ("OCI://r.example.test:5000/a/b-c/d:1.0", "https://r.example.test:5000/v2/a/b-c/d/manifests/1.0"),
        ("oci://docker.io/library/x:1", "https://registry-1.docker.io/v2/library/x/manifests/1"),
        (
            f"oci://r.example.test/a:tag@sha256:{'a' * 64}",
            f"https://r.example.test/v2/a/manifests/sha256:{'a' * 64}",
        ),
    ],
)
def test_a_reference_names_a_manifest(text: str, manifest: str) -> None:
    reference = oci_reference.parse(text)
    assert reference.url("manifests", reference.reference).text == manifest


@pytest.mark.parametrize(
    "text",
    [
        "oci://r.example.test", "oci:///a", "oci://r.example.test/../a", "oci://r.example.test/A",
        "oci://r.example.test/a:", "oci://r.example.test/a@sha256:00", "oci://r.example.test/a:b/c",
        "oci://me:pw@r.example.test/a", "oci://0x7f.1/a", "oci://r.example.test:22/a",
        "oci://r.example.test/a?x", "oci://r.example.test/a%2e", "oci://localhost/a", "oci://r.example.test/a:b:c",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    if text.endswith("/a:"):
        assert oci_reference.parse(text).reference == "latest"
        return
    with pytest.raises(SourceUrlError):
        oci_reference.parse(text)


class Registry(DocumentReader):
    """Answers with documents by their URL, and notes who was asked with which login."""

    def __init__(self, documents: dict[str, bytes], *, token: str | None, login: bool = False) -> None:
        access = SourceAccess(credentials=SourceCredentials("me", "secret") if login else None)
        policy = SourcePolicy(AddressPolicy(), None, False, access, login_origin=REFERENCE.registry.origin)
        super().__init__(None, policy, DEFAULT)
        object.__setattr__(self, "documents", documents)
        object.__setattr__(self, "token", token)
        object.__setattr__(self, "asked", [])

    async def read(self, url: SourceUrl, **how: Any) -> SourceDocument:
        policy = how.get("policy") or self.policy
        sent = policy.authorization(url)
        self.asked.append((url.text.partition("?")[0], sent))  # type: ignore[attr-defined]
        headers: dict[str, list[str]] = {}
        status, body = 200, self.documents.get(url.text.partition("?")[0])  # type: ignore[attr-defined]
        token = self.token  # type: ignore[attr-defined]
        if token is not None and "/v2/" in url.text and sent != f"Bearer {token}":
            status, body = 401, b""
            headers["www-authenticate"] = ['Bearer realm="https://auth.example.test/token",service="r"']
        if status not in how.get("statuses", {200}) or body is None:
            raise TransferError(TransferFailure.HTTP_STATUS, f"{status}")
        return SourceDocument(url, ResponseHead(status, headers), body, was_always_tls=True)


ROOT = "https://r.example.test/v2/ns/vm"
REFERENCE = oci_reference.parse("oci://r.example.test/ns/vm:1")


def find(registry: Registry, arch: str = "amd64", reference: str | None = None) -> Any:
    outcome: list[Any] = []
    wanted = REFERENCE if reference is None else evolve(REFERENCE, reference=reference)
    finding = Deferred.fromCoroutine(oci.find_disk(registry, wanted, arch))
    finding.addErrback(lambda failure: failure.value).addCallback(outcome.append)
    return outcome[0]


DOCUMENTS = {
    f"{ROOT}/manifests/1": INDEX,
    f"{ROOT}/manifests/{digest(MANIFEST)}": MANIFEST,
    f"{ROOT}/manifests/{digest(b'other')}": b"{}",
    "https://auth.example.test/token": b'{"token": "t0ken"}',
}


@pytest.mark.parametrize("login", [False, True])
def test_the_largest_layer_for_the_architecture_is_found_with_a_token(login: bool) -> None:
    registry = Registry(DOCUMENTS, token="t0ken", login=login)
    disk = find(registry)
    assert disk.url.text == f"{ROOT}/blobs/{digest(LARGE)}"
    assert (disk.blob.size_bytes, disk.blob.is_tar) == (len(LARGE), True)
    assert str(disk.blob.checksum) == f"{{SHA-256}}{hashlib.sha256(LARGE).hexdigest()}"
    assert disk.policy.authorization(disk.url) == "Bearer t0ken"
    assert disk.policy.has_checksum
    elsewhere = evolve(disk.url, host="cdn.example.test")
    assert disk.policy.authorization(elsewhere) is None
    basic = "Basic bWU6c2VjcmV0" if login else None
    assert ("https://auth.example.test/token", basic) in registry.asked  # type: ignore[attr-defined]


def test_an_open_registry_needs_no_token() -> None:
    documents = {f"{ROOT}/manifests/1": MANIFEST}
    assert find(Registry(documents, token=None)).blob.digest == digest(LARGE)


def test_a_blob_of_its_own_is_the_file() -> None:
    manifest = json.dumps({"layers": [descriptor(LARGE, "application/vnd.qemu.disk.qcow2")]}).encode()
    assert find(Registry({f"{ROOT}/manifests/1": manifest}, token=None)).blob.is_tar is False


@pytest.mark.parametrize(
    ("documents", "arch", "reference", "code"),
    [
        ({**DOCUMENTS, f"{ROOT}/manifests/{digest(MANIFEST)}": b"{}"}, "amd64", None, "checksum_mismatch"),
        (DOCUMENTS, "riscv64", None, "manifest_invalid"),
        (DOCUMENTS, "arm64", None, "checksum_mismatch"),
        ({**DOCUMENTS, f"{ROOT}/manifests/1": b"[]"}, "amd64", None, "manifest_invalid"),
        ({**DOCUMENTS, f"{ROOT}/manifests/1": b"<html>"}, "amd64", None, "manifest_invalid"),
        ({**DOCUMENTS, f"{ROOT}/manifests/1": b'{"layers": []}'}, "amd64", None, "manifest_invalid"),
        ({**DOCUMENTS, f"{ROOT}/manifests/1": b'{"layers": [{"digest": "../x", "size": 1}]}'}, "amd64", None,
         "manifest_invalid"),
        ({**DOCUMENTS, f"{ROOT}/manifests/1": b'{"manifests": {"a": 1}}'}, "amd64", None, "manifest_invalid"),
        ({**DOCUMENTS, f"{ROOT}/manifests/1": b"[" * 100_000}, "amd64", None, "manifest_invalid"),
        ({**DOCUMENTS, "https://auth.example.test/token": b"{}"}, "amd64", None, "manifest_invalid"),
        ({**DOCUMENTS, "https://auth.example.test/token": b'{"token": "a\\r\\nX: y"}'}, "amd64", None,
         "manifest_invalid"),
        ({**DOCUMENTS, f"{ROOT}/manifests/sha256:{'0' * 64}": MANIFEST}, "amd64", f"sha256:{'0' * 64}",
         "checksum_mismatch"),
        ({}, "amd64", None, "http_status"),
    ],
)  # fmt: skip
def test_what_is_not_the_image_is_refused(
    documents: dict[str, bytes], arch: str, reference: str | None, code: str
) -> None:
    documents = {"https://auth.example.test/token": b'{"token": "t0ken"}', **documents}
    error = find(Registry(documents, token="t0ken"), arch, reference)
    assert isinstance(error, TransferError)
    assert error.code.value == code


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ('Bearer realm="https://a.test/t"', Challenge("https://a.test/t")),
        ('bearer Realm="r", service="s",scope="x"', Challenge("r", "s", "x")),
        ('Basic realm="r"', None),
        ("Bearer", None),
        ('Bearer service="s"', None),
    ],
)
def test_a_challenge_names_where_tokens_come_from(value: str, found: Challenge | None) -> None:
    assert oci_manifest.read_challenge([value]) == found


@pytest.mark.parametrize("piece", ["a", 'a="', "a=", '"', 'a=""'])
def test_a_long_challenge_costs_little(piece: str) -> None:
    """fetch has one thread for all downloads."""
    used_s = time.process_time()
    oci_manifest.read_challenge(["Bearer " + piece * (MAX_DOCUMENT_BYTES // len(piece))])
    assert time.process_time() - used_s < 2


@given(st.text(max_size=200))
def test_any_challenge_is_one_or_none(text: str) -> None:
    found = oci_manifest.read_challenge([text, f"Bearer {text}"])
    assert found is None or '"' not in found.realm


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["manifests", "layers", "digest", "size", "platform", "mediaType",
                                       "architecture", "token", "access_token"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.one_of(JSON.map(json.dumps).map(str.encode), st.binary(max_size=60)))
def test_any_document_of_a_registry_is_read_or_a_reason(body: bytes) -> None:
    for read in (
        oci_manifest.read_token,
        oci_manifest.disk_blob,
        lambda document: oci_manifest.digest_for(document, "amd64"),
    ):
        try:
            read(body)
        except TransferError as error:
            assert error.code is TransferFailure.MANIFEST_INVALID


def archive(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def taken(data: bytes, step: int) -> bytes:
    member = TarMember("disk/")
    found = b"".join(
        bytes(part) for start in range(0, len(data), step) for part in member.feed(data[start : start + step])
    )
    member.finish()
    return found


@pytest.mark.parametrize("step", [1, 511, 512, 513, 100_000])
@pytest.mark.parametrize("prefix", ["disk/", "./disk/", "/disk/"])
def test_the_disk_of_a_layer_is_taken_out_of_the_stream(prefix: str, step: int) -> None:
    disk = bytes(range(256)) * 5
    data = archive(("etc/hosts", b"x" * 700), (f"{prefix}vm.qcow2", disk), ("usr/z", b""))
    assert taken(data, step) == disk


@pytest.mark.parametrize(
    "data",
    [
        archive(("etc/hosts", b"x")),
        archive(("disk/a", b"x"), ("disk/b", b"y")),
        archive(("disk/../etc", b""), kind=tarfile.SYMTYPE),
        archive(("disk/a", b""), kind=tarfile.LNKTYPE),
        archive(("other/disk/a", b"x")),
        archive(("disk/a", b"x" * 2000))[:1000],
        b"QFI\xfb" + bytes(2000),
        b"",
    ],
)
def test_a_layer_without_one_disk_is_refused(data: bytes) -> None:
    with pytest.raises(TransferError):
        taken(data, 700)
