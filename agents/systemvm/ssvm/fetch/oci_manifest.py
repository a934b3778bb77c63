# SPDX-License-Identifier: Apache-2.0
"""Manifests of a registry: which blob holds the disk (OCI Image Specification 1.1; KubeVirt's containerDisk).

A containerDisk is an image whose layer, a tar archive, has the disk below `disk/`. ORAS and others store a
file as a blob of its own.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
from attrs import field, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.wire.checksum import Checksum, ChecksumAlgorithm
from systemvm.wire.oci_reference import DIGEST
from systemvm.wire.transfer_failure import TransferFailure

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
MAX_ENTRIES = 512
_TAR = re.compile(r"[./+]tar\b")
_PARAMETER = re.compile(r'\b([A-Za-z]+)="([^"]*)"')


@frozen
class Blob:
    """A layer; `is_tar` tells whether the disk is a file in it."""

    digest: str
    size_bytes: int
    is_tar: bool

    @property
    def checksum(self) -> Checksum:
        name, _, digits = self.digest.partition(":")
        return Checksum(ChecksumAlgorithm.named(name), digits)


@frozen
class Challenge:
    """Where a registry has its tokens from."""

    realm: str
    service: str = ""
    scope: str = field(default="")


def read_challenge(values: list[str]) -> Challenge | None:
    """Parse WWW-Authenticate; None when it wants no token but a login."""
    for value in values:
        scheme, _, rest = value.strip().partition(" ")
        parameters = {name.lower(): text for name, text in _PARAMETER.findall(rest)}
        if scheme.lower() == "bearer" and "realm" in parameters:
            return Challenge(parameters["realm"], parameters.get("service", ""), parameters.get("scope", ""))
    return None


def read_token(body: bytes) -> str:
    """Return the token of an authorization server's response.

    Raises: TransferError when there is none.
    """
    answer = _decode(body, "token")
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or len(token) > 16384:
        raise invalid("the registry's authorization server sent no token")
    return token


def require_digest(body: bytes, digest: str) -> None:
    """Check that a manifest is the one that its digest names.

    Raises: TransferError when it is another one.
    """
    algorithm, _, expected = digest.partition(":")
    if hashlib.new(algorithm, body).hexdigest() != expected:
        raise TransferError(
            TransferFailure.CHECKSUM_MISMATCH,
            f"manifest does not have its digest {digest}",
            "compare it with the publisher's: the registry or a proxy changed it",
        )


def digest_for(body: bytes, arch: str) -> str | None:
    """Return the digest of the manifest for an architecture; None when `body` is a manifest itself.

    Raises: TransferError when there is none for it.
    """
    index = _decode(body, "manifest")
    entries = index.get("manifests")
    if entries is None:
        return None
    found = [
        entry["digest"]
        for entry in _entries(entries)
        if isinstance(entry.get("platform"), dict) and entry["platform"].get("architecture") == arch
    ]
    if not found and len(_entries(entries)) == 1:
        found = [_entries(entries)[0]["digest"]]
    if not found:
        raise invalid(f"the image has no manifest for {arch}")
    return str(found[0])


def disk_blob(body: bytes) -> Blob:
    """Return the layer with the disk: the largest one, as a disk is larger than what goes with it.

    Raises: TransferError when there is no layer.
    """
    layers = _entries(_decode(body, "manifest").get("layers"))
    if not layers:
        raise invalid("the image has no layer")
    layer = max(layers, key=lambda each: each["size"])
    media_type = str(layer.get("mediaType", ""))
    if "nondistributable" in media_type or "foreign" in media_type:
        raise invalid("the layer with the disk is not in the registry")
    return Blob(layer["digest"], layer["size"], _TAR.search(media_type) is not None)


def invalid(why: str) -> TransferError:
    return TransferError(
        TransferFailure.MANIFEST_INVALID,
        f"image in the registry cannot be used: {why}",
        "check the reference",
    )


def _decode(body: bytes, what: str) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise invalid(f"{what} is not JSON") from None
    if not isinstance(decoded, dict):
        raise invalid(f"{what} is not a JSON object")
    return decoded


def _entries(entries: Any) -> list[dict[str, Any]]:
    """Return descriptors, each with a digest and a size that can be used."""
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise invalid("its entries are not a list")
    for entry in entries:
        if (
            not isinstance(entry, dict)
            or not DIGEST.fullmatch(str(entry.get("digest")))
            or not isinstance(entry.get("size"), int)
            or not 0 <= entry["size"] < 1 << 63
        ):
            raise invalid("an entry has no digest or size")
    return entries
