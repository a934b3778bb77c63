# SPDX-License-Identifier: Apache-2.0
"""Finds a disk in a registry: token, manifest, the manifest of an architecture, and the blob."""

from __future__ import annotations

from urllib.parse import urlencode

from attrs import evolve, frozen

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import oci_manifest
from systemvm.ssvm.fetch.document import DocumentReader, SourceDocument
from systemvm.ssvm.fetch.oci_manifest import ACCEPT, Blob
from systemvm.ssvm.fetch.source import SourcePolicy
from systemvm.wire import source_url
from systemvm.wire.oci_reference import DIGEST, OciReference
from systemvm.wire.source_url import SourceUrl, SourceUrlError

_ANSWERED = frozenset({200, 401})


@frozen
class OciDisk:
    """The blob, its URL, and the policy with the token for it."""

    url: SourceUrl
    blob: Blob
    policy: SourcePolicy


async def find_disk(reader: DocumentReader, reference: OciReference, arch: str) -> OciDisk:
    """Return the disk of an image for an architecture.

    Raises: TransferError when the registry refuses it, or the image has no such disk.
    """
    url = reference.url("manifests", reference.reference)
    policy = reader.policy
    answer = await reader.read(url, policy=policy, accept=ACCEPT, statuses=_ANSWERED)
    if answer.head.status == 401:
        policy = evolve(policy, token=await _token(reader, answer, reference))
        answer = await reader.read(url, policy=policy, accept=ACCEPT)
    if DIGEST.fullmatch(reference.reference):
        oci_manifest.require_digest(answer.body, reference.reference)
    digest = oci_manifest.digest_for(answer.body, arch)
    if digest is not None:
        manifest = reference.url("manifests", digest)
        answer = await reader.read(manifest, policy=policy, accept=ACCEPT)
        oci_manifest.require_digest(answer.body, digest)
    blob = oci_manifest.disk_blob(answer.body)
    of_blob = evolve(policy, has_checksum=True)  # its digest
    return OciDisk(reference.url("blobs", blob.digest), blob, of_blob)


async def _token(reader: DocumentReader, refused: SourceDocument, reference: OciReference) -> str:
    """Ask the registry's authorization server, with the login of the registration if there is one."""
    challenge = oci_manifest.read_challenge(refused.head.headers.get("www-authenticate", []))
    if challenge is None:
        raise oci_manifest.invalid("the registry requires a login; register it with sourceusername")
    query = {"scope": challenge.scope or f"repository:{reference.repository}:pull"}
    if challenge.service:
        query["service"] = challenge.service
    mark = "&" if "?" in challenge.realm else "?"
    try:
        realm = source_url.parse(f"{challenge.realm}{mark}{urlencode(query)}", "authorization server")
    except SourceUrlError as error:
        raise TransferError.of_url(error) from None
    if not realm.is_tls:
        raise oci_manifest.invalid("the registry's authorization server is not reached by HTTPS")
    # a registry names whom it trusts with its logins, as docker login has it
    policy = evolve(reader.policy, login_origin=realm.origin)
    answer = await reader.read(realm, policy=policy, accept="application/json")
    return oci_manifest.read_token(answer.body)
