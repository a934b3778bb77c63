# SPDX-License-Identifier: Apache-2.0
"""`oci://host/repository:tag`: an image in a registry (OCI Distribution Specification 1.1)."""

from __future__ import annotations

import re

from attrs import frozen

from systemvm.wire import source_url
from systemvm.wire.source_url import SourceUrl, SourceUrlError

SCHEME = "oci://"
DEFAULT_TAG = "latest"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_FORM = "write it as oci://host/repository:tag or oci://host/repository@sha256:digest"
#: Docker's registry has another name than its images.
_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@frozen
class OciReference:
    """`registry` is the URL of the registry's root; `reference` is a tag or a digest."""

    registry: SourceUrl
    repository: str
    reference: str

    def url(self, kind: str, reference: str) -> SourceUrl:
        """Return the URL of a manifest or a blob; `kind` is `manifests` or `blobs`."""
        return source_url.parse(f"{self.registry.origin}/v2/{self.repository}/{kind}/{reference}")


def is_oci(url: str) -> bool:
    return url.lower().startswith(SCHEME)


def parse(url: str) -> OciReference:
    """Parse a reference; registries are reached by HTTPS only.

    Raises: SourceUrlError when it is not one.

    >>> parse("oci://quay.example.test/containerdisks/fedora:41").url("manifests", "41").text
    'https://quay.example.test/v2/containerdisks/fedora/manifests/41'
    """
    if len(url) > source_url.MAX_CHARACTERS:
        raise SourceUrlError(f"URL is too long: {len(url)} characters", "shorten the URL")
    host, _, rest = url[len(SCHEME) :].partition("/")
    name, at, digest = rest.partition("@")
    repository, _, tag = name.partition(":")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise SourceUrlError("repository of the OCI reference is not valid", _FORM)
    if at and not DIGEST.fullmatch(digest):
        raise SourceUrlError("digest of the OCI reference is not valid", _FORM)
    if tag and not _TAG.fullmatch(tag):
        raise SourceUrlError("tag of the OCI reference is not valid", _FORM)
    registry = source_url.parse(f"https://{_HOSTS.get(host.lower(), host)}/")
    return OciReference(registry, repository, digest or tag or DEFAULT_TAG)
