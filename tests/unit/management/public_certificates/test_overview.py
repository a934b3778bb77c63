# SPDX-License-Identifier: Apache-2.0
"""listPublicNames and renewPublicCertificate: each name with its certificate, from whoever issued it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from public_pki import DOMAIN, INTERMEDIATE, ROOT, WILDCARD, server
from small_cloud import SmallCloud
from systemvm.host.zone import ConsoleConfig
from systemvm.management.api.errors import ApiError
from systemvm.management.pki.public import IdentitySource, PublicIdentity
from systemvm.management.public_certificates.overview import PublicNames
from systemvm.management.state.status import InstanceType
from systemvm.rpc.core.errors import INVALID_PARAMS, RpcError
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP
from systemvm.wire.role import Role


@pytest.fixture
def ssvm(cloud: SmallCloud) -> str:
    """The name of an SSVM that takes certificates."""
    for method in (EXTRACT_SETUP, EXTRACT_LINKS):
        cloud.ssvm_peer.answers[method] = lambda _: Acknowledgement()
    return cloud.ssvm.instance_name


async def upload(cloud: SmallCloud) -> None:
    leaf = server()
    text = leaf.pem + INTERMEDIATE.pem + ROOT.pem
    given = {"certificate": text, "privatekey": leaf.key_pem, "domainsuffix": DOMAIN}
    await cloud.job("uploadCustomCertificate", **given)


async def listed(cloud: SmallCloud, service: str) -> list[dict[str, Any]]:
    answer = await cloud.call("listPublicNames", service=service)
    return list(answer.get("publicname", []))


@pytest_twisted.ensureDeferred
async def test_a_name_has_its_issuer_its_end_and_the_system_vms_that_use_it(
    cloud: SmallCloud, ssvm: str
) -> None:
    await cloud.call("updateConfiguration", name="secstorage.ssl.cert.domain", value=WILDCARD)
    [before] = await listed(cloud, "secondarystorage")
    address = f"203.0.113.{100 + cloud.ssvm.id}"
    host = f"{address.replace('.', '-')}.{DOMAIN}"
    assert (before["name"], before["source"], before["state"]) == (address, "own", "valid")
    assert (before["configured"], before["wantedname"]) == (WILDCARD, host)
    assert f"no valid certificate is for {WILDCARD}" in before["reason"]
    assert before["setting"] == "secstorage.ssl.cert.domain"
    await upload(cloud)
    [after] = await listed(cloud, "secondarystorage")
    assert (after["name"], after["source"], after["state"]) == (host, "upload", "valid")
    assert after["id"] == before["id"], "a name keeps its id when its certificate changes"
    assert after["systemvms"] == [ssvm]
    assert (after["names"], after["issuer"]) == ([WILDCARD], "CN=test intermediate")
    assert "reason" not in after and after["expires"] > after["begins"]
    await cloud.call("deleteCustomCertificate", domainsuffix=DOMAIN)
    [back] = await listed(cloud, "secondarystorage")
    assert (back["name"], back["source"]) == (address, "own")


@pytest_twisted.ensureDeferred
async def test_one_that_a_system_vm_refuses_is_shown_beside_the_one_that_it_keeps(
    cloud: SmallCloud, ssvm: str
) -> None:
    await upload(cloud)
    await cloud.call("updateConfiguration", name="secstorage.ssl.cert.domain", value=WILDCARD)
    cloud.ssvm_peer.answers[EXTRACT_SETUP] = lambda _: RpcError(INVALID_PARAMS, "its clock is wrong")
    await cloud.public_certificates.changed()
    [name] = await listed(cloud, "secondarystorage")
    assert name["source"] == "upload" and name["state"] == "valid"
    assert "its clock is wrong" in name["reason"] and "the one before stays in use" in name["hint"]


@pytest_twisted.ensureDeferred
async def test_a_file_is_shown_before_any_system_vm_has_taken_it(cloud: SmallCloud, tmp_path: Path) -> None:
    leaf = server(DOMAIN)
    (tmp_path / "chain.pem").write_text(leaf.pem + INTERMEDIATE.pem)
    (tmp_path / "key.pem").write_text(leaf.key_pem)
    cloud.console = ConsoleConfig(
        origin=f"https://{DOMAIN}", certificate_file=tmp_path / "chain.pem", key_file=tmp_path / "key.pem"
    )
    [name] = await listed(cloud, "console")
    assert (name["name"], name["source"], name["state"]) == (DOMAIN, "file", "valid")
    (tmp_path / "chain.pem").write_text("no certificate")
    [name] = await listed(cloud, "console")
    assert (name["state"], name["reason"]) == ("none", "file contains no certificate in PEM")
    (tmp_path / "chain.pem").unlink()
    [name] = await listed(cloud, "console")
    assert name["state"] == "none" and "cannot be read" in name["reason"]


@pytest_twisted.ensureDeferred
async def test_system_vms_of_a_domain_have_a_name_each_and_those_that_are_away_have_none(
    cloud: SmallCloud, ssvm: str
) -> None:
    second = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)  # never connected
    cloud.agents.connect(second.instance_name, Role.SSVM)
    names = await listed(cloud, "secondarystorage")
    assert [each["systemvms"] for each in names] == [[ssvm], [second.instance_name]]
    assert await listed(cloud, "page") == [], "a proxy has its certificate"


@pytest_twisted.ensureDeferred
async def test_the_page_is_a_name_with_why_its_files_are_not_used(cloud: SmallCloud) -> None:
    leaf = server(DOMAIN)

    class Page:
        endpoint = PublicEndpoint("https", DOMAIN, 443)
        identity = PublicIdentity(leaf.pem, leaf.key_pem, IdentitySource.FILE)
        failure = "key_file: Permission denied"

    names = PublicNames(cloud.sites, lambda _: cloud.console, cloud.settings.secondary_storage, list, Page())
    page = cloud.database.run_now(names.read)[-1]
    assert (page.id, page.source, page.leaf) == (f"page/{DOMAIN}", IdentitySource.FILE, leaf.certificate)
    assert "Permission denied" in page.reason and "the one before stays in use" in page.hint


@pytest_twisted.ensureDeferred
async def test_a_certificate_is_renewed_now(cloud: SmallCloud, ssvm: str) -> None:
    [name] = await listed(cloud, "secondarystorage")
    await cloud.extraction.send_certificates()
    [before] = await listed(cloud, "secondarystorage")
    ended = await cloud.job("renewPublicCertificate", id=name["id"])
    assert ended.result["success"] is True
    [after] = await listed(cloud, "secondarystorage")
    assert after["fingerprint"] != before["fingerprint"]

    await cloud.call("updateConfiguration", name="secstorage.ssl.cert.domain", value=WILDCARD)
    await upload(cloud)
    [uploaded] = await listed(cloud, "secondarystorage")
    ended = await cloud.job("renewPublicCertificate", id=uploaded["id"])
    assert "was uploaded" in ended.result["errortext"] and "send a newer one" in ended.result["hint"]
    await cloud.call("deleteCustomCertificate", domainsuffix=DOMAIN)
    await cloud.call(
        "updateConfiguration", name="secstorage.acme.directory.url", value="https://127.0.0.1:1/dir"
    )
    cloud.agents.disconnect(ssvm)
    [away] = await listed(cloud, "secondarystorage")
    assert away["acmestate"] == "waiting" and away["acmedirectory"] == "https://127.0.0.1:1/dir"
    ended = await cloud.job("renewPublicCertificate", id=away["id"])
    assert "no system VM that is Up" in ended.result["errortext"]
    for wrong in ({"id": "zone1/console/other"}, {}):
        with pytest.raises(ApiError):
            await cloud.call("renewPublicCertificate", **wrong)
    with pytest.raises(ApiError, match="service must be"):
        await cloud.call("listPublicNames", service="nonsense")
