# SPDX-License-Identifier: Apache-2.0
"""Logins of sources and certificates that downloads trust: registered, listed, handed to SSVMs, revoked."""

from __future__ import annotations

from datetime import datetime

import pytest
import pytest_twisted
import trustme

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.wire import storage
from systemvm.wire.source_access import SourceCredentials

CA = trustme.CA().cert_pem.bytes().decode()
EXPIRED = (
    trustme.CA()
    .issue_cert("old.example.test", not_before=datetime(2020, 1, 1), not_after=datetime(2021, 1, 1))  # noqa: DTZ001
    .cert_chain_pems[0]
    .bytes()
    .decode()
)
TEMPLATE = {
    "name": "private", "format": "QCOW2", "hypervisor": "KVM", "url": "https://images.example.test/private.qcow2",
}  # fmt: skip


async def request_of(cloud: SmallCloud) -> storage.DownloadRequest:
    """The newest request that the SSVM received."""
    await cloud.dispatch.reconcile()
    request: storage.DownloadRequest = cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD)[-1]
    return request


@pytest_twisted.ensureDeferred
async def test_a_login_reaches_the_ssvm_and_no_list(cloud: SmallCloud) -> None:
    answer = await cloud.call(
        "registerTemplate", **TEMPLATE, sourceusername="me", sourcepassword="very:secret", ispublic=True
    )
    request = await request_of(cloud)
    assert request.access.credentials == SourceCredentials("me", "very:secret")
    assert request.access.proxy is not None, "and the zone's proxy with it"
    assert "very:secret" not in repr(request)
    for caller in (cloud.admin, cloud.user):
        listed = await cloud.call("listTemplates", caller, templatefilter="executable")
        assert "very:secret" not in str([answer, listed])
        assert "username" not in str(listed)
    stored = cloud.database.run_now(lambda connection: connection.exec_driver_sql(
        "SELECT sealed_password FROM template_sources").scalar_one())  # fmt: skip
    assert b"secret" not in stored


@pytest.mark.parametrize(
    "wrong",
    [
        {"sourcepassword": "x"},
        {"sourceusername": "a:b"},
        {"url": "https://me:secret@images.example.test/private.qcow2"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_login_in_another_form_is_refused(cloud: SmallCloud, wrong: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refused:
        await cloud.call("registerTemplate", **{**TEMPLATE, **wrong})
    assert refused.value.code.value == 431
    assert "secret" not in str(refused.value)
    if "url" in wrong:
        assert "sourceusername" in str(refused.value) + str(refused.value.hint)


async def upload(cloud: SmallCloud, name: str = "mirror", **more: str) -> dict[str, str]:
    values = {"name": name, "certificate": CA, "hypervisor": "KVM", **more}
    answer = await cloud.call("uploadTemplateDirectDownloadCertificate", **values)
    added: dict[str, str] = answer["directdownloadcertificate"]
    return added


@pytest_twisted.ensureDeferred
async def test_downloads_trust_a_certificate_until_it_is_revoked(cloud: SmallCloud) -> None:
    added = await upload(cloud)
    assert (added["alias"], added["zoneid"], added["hypervisor"]) == ("mirror", cloud.zone.uuid, "KVM")
    assert len(added["fingerprint"].split(":")) == 32
    listed = await cloud.call("listTemplateDirectDownloadCertificates", zoneid=cloud.zone.uuid)
    assert listed["directdownloadcertificate"] == [added]

    await cloud.call("registerTemplate", **TEMPLATE)
    request = await request_of(cloud)
    assert request.source_ca_pem is not None
    assert CA.strip() in request.source_ca_pem

    await cloud.call("revokeTemplateDirectDownloadCertificate", id=added["id"])
    assert await cloud.call("listTemplateDirectDownloadCertificates") == {}
    await cloud.call("registerTemplate", **{**TEMPLATE, "name": "later"})
    assert CA.strip() not in ((await request_of(cloud)).source_ca_pem or "")


@pytest_twisted.ensureDeferred
async def test_a_certificate_is_taken_without_its_first_and_last_line(cloud: SmallCloud) -> None:
    """CloudStack's own test of these commands sends it so."""
    bare = "".join(CA.strip().splitlines()[1:-1])
    assert (await upload(cloud, certificate=bare))["fingerprint"] == (await upload(cloud, "b"))["fingerprint"]


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_one_template_is_trusted_for_no_other(cloud: SmallCloud) -> None:
    requests = {}
    for name in ("own", "other"):
        [row] = (await cloud.call("registerTemplate", **{**TEMPLATE, "name": name}))["template"]
        if name == "own":
            added = await upload(cloud, templateid=row["id"])
            assert added["templateid"] == row["id"]
    await cloud.dispatch.reconcile()
    for request in cloud.ssvm_peer.params_of(storage.TEMPLATE_DOWNLOAD):
        requests[request.description] = CA.strip() in (request.source_ca_pem or "")
    assert requests == {"own": True, "other": False}


@pytest_twisted.ensureDeferred
async def test_a_certificate_is_revoked_by_its_alias(cloud: SmallCloud) -> None:
    await upload(cloud, "a")
    await upload(cloud, "b")
    await cloud.call("revokeTemplateDirectDownloadCertificate", name="a", hypervisor="KVM")
    [left] = (await cloud.call("listTemplateDirectDownloadCertificates"))["directdownloadcertificate"]
    assert left["alias"] == "b"


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("upload", {"name": "mirror"}),  # taken
        (
            "upload",
            {"name": "x", "certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"},
        ),
        ("upload", {"name": "x", "certificate": "nothing"}),
        ("upload", {"name": "x", "certificate": EXPIRED}),
        ("upload", {"name": "x", "certificate": CA * 200}),
        ("upload", {"name": "x", "hypervisor": "Hyperv"}),
        ("revoke", {"name": "unknown"}),
        ("revoke", {}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_certificate_is_refused(
    cloud: SmallCloud, command: str, values: dict[str, str]
) -> None:
    await upload(cloud)
    defaults = {"certificate": CA, "hypervisor": "KVM"} if command == "upload" else {}
    with pytest.raises(ApiError) as refused:
        await cloud.call(f"{command}TemplateDirectDownloadCertificate", **{**defaults, **values})
    assert refused.value.code.value == 431


SUMS = "https://images.example.test/SHA256SUMS"


@pytest_twisted.ensureDeferred
async def test_a_checksum_file_and_its_signature_reach_the_ssvm_and_no_list(cloud: SmallCloud) -> None:
    signature = f"{SUMS}.gpg?token=secret"
    answer = await cloud.call("registerTemplate", **TEMPLATE, checksum=SUMS, checksumsignature=signature)
    assert "checksum" not in answer["template"][0]
    request = await request_of(cloud)
    assert (request.checksum, request.access.signature_url) == (SUMS, signature)
    assert "secret" not in repr(request)


@pytest.mark.parametrize(
    "wrong",
    [
        {"checksum": "ftp://images.example.test/SUMS"},
        {"checksum": "http://127.1/SUMS"},
        {"checksum": "0" * 64, "checksumsignature": f"{SUMS}.gpg"},
        {"checksumsignature": f"{SUMS}.gpg"},
        {"checksum": SUMS, "checksumsignature": "file:///etc/passwd"},
        {"url": "oci://registry.example.test/UPPER"},
        {"url": "oci://me:pw@registry.example.test/a"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_no_ssvm_could_read_is_refused(cloud: SmallCloud, wrong: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refused:
        await cloud.call("registerTemplate", **{**TEMPLATE, **wrong})
    assert refused.value.code.value == 431


@pytest.mark.parametrize(
    "url",
    [
        "oci://registry.example.test/vm:1",
        "https://images.example.test/a.qcow2.meta4",
        "http://m.example.test/a.metalink",
    ],
)
@pytest_twisted.ensureDeferred
async def test_registries_and_metalinks_are_registered_by_their_url(cloud: SmallCloud, url: str) -> None:
    await cloud.call("registerTemplate", **{**TEMPLATE, "url": url})
    request = await request_of(cloud)
    assert (request.url, request.arch) == (url, "amd64")
