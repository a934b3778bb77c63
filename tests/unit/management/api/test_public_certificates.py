# SPDX-License-Identifier: Apache-2.0
"""uploadCustomCertificate from the checks to the SSVM that gets it; names, fallbacks and removal."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from public_pki import DOMAIN, INTERMEDIATE, ROOT, WILDCARD, Issued, issue, server
from settling import settled
from small_cloud import CONSOLE_ORIGIN, SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.rpc.core.errors import INVALID_PARAMS, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_SETUP, ExtractSetup

UPLOAD = "uploadCustomCertificate"
CONSOLE_DOMAIN, STORAGE_DOMAIN = "consoleproxy.url.domain", "secstorage.ssl.cert.domain"


async def upload(cloud: SmallCloud, leaf: Issued, **more: Any) -> Any:
    given = {"certificate": leaf.pem, "privatekey": leaf.key_pem, "domainsuffix": DOMAIN} | more
    return await cloud.job(UPLOAD, **given)


async def upload_chain(cloud: SmallCloud) -> None:
    """As CloudStack's clients do: the root first, then what is between, then the server."""
    for number, (name, part) in enumerate((("root", ROOT), ("intermediate1", INTERMEDIATE)), 1):
        given = {"certificate": part.pem, "domainsuffix": DOMAIN, "id": number, "name": name}
        ended = await cloud.job(UPLOAD, **given)
        assert "send the certificate of the server" in ended.result["customcertificate"]["message"]


async def refused(cloud: SmallCloud, **given: Any) -> ApiError:
    with pytest.raises(Exception) as raised:
        await cloud.call(UPLOAD, **given)
    from systemvm.management.api.failures import as_api_error

    assert isinstance(raised.value, Exception)
    problem = as_api_error(raised.value, "request-1")
    assert int(problem.code) == 431, problem
    return problem


@pytest.fixture
def setups(cloud: SmallCloud) -> list[ExtractSetup]:
    """The setups that the SSVM received."""
    cloud.ssvm_peer.answers[EXTRACT_SETUP] = lambda _: Acknowledgement()
    received: list[ExtractSetup] = cloud.ssvm_peer.params_of(EXTRACT_SETUP)
    return received


def newest(cloud: SmallCloud) -> ExtractSetup:
    setup: ExtractSetup = cloud.ssvm_peer.params_of(EXTRACT_SETUP)[-1]
    return setup


@pytest_twisted.ensureDeferred
async def test_a_chain_in_parts_serves_consoles_and_links_by_the_name_of_the_settings(
    cloud: SmallCloud, setups: list[ExtractSetup]
) -> None:
    await cloud.call("updateConfiguration", name=CONSOLE_DOMAIN, value=WILDCARD, zoneid=cloud.zone.uuid)
    await cloud.call("updateConfiguration", name=STORAGE_DOMAIN, value=WILDCARD.upper())
    address = f"203.0.113.{100 + cloud.ssvm.id}"
    assert cloud.sites.console(cloud.zone.name, "203.0.113.9").url == CONSOLE_ORIGIN
    assert newest(cloud).origin == f"https://{address}", "until a certificate is valid for the name"

    await upload_chain(cloud)
    leaf = server()
    ended = await upload(cloud, leaf)
    assert "successfully updated" in ended.result["customcertificate"]["message"]
    named = cloud.sites.console(cloud.zone.name, "203.0.113.9")
    assert named.url == f"https://203-0-113-9.{DOMAIN}:8443"
    identity = cloud.sites.console_identity(cloud.zone.name, "203.0.113.9")
    assert identity.certificate_pem == leaf.pem + INTERMEDIATE.pem
    assert identity.private_key_pem == leaf.key_pem
    setup = newest(cloud)
    assert setup.origin == f"https://{address.replace('.', '-')}.{DOMAIN}"
    assert (setup.certificate_pem, setup.private_key_pem) == (leaf.pem + INTERMEDIATE.pem, leaf.key_pem)

    [row] = [each for each in await listed(cloud) if each["source"] == "upload"]
    assert (row["names"], row["inuse"]) == ([WILDCARD], [WILDCARD])
    assert row["name"] == "CPVMCertificate"

    await cloud.call("deleteCustomCertificate", domainsuffix=DOMAIN)
    assert await listed(cloud) == []
    assert newest(cloud).origin == f"https://{address}"
    assert newest(cloud).certificate_pem != setup.certificate_pem
    assert cloud.sites.console(cloud.zone.name, "203.0.113.9").url == CONSOLE_ORIGIN


async def listed(cloud: SmallCloud) -> list[dict[str, Any]]:
    answer = await cloud.call("listCustomCertificates")
    return list(answer.get("customcertificate", []))


@pytest_twisted.ensureDeferred
async def test_a_key_is_sealed_and_in_no_job_event_or_answer(cloud: SmallCloud) -> None:
    leaf = server()
    ended = await upload(cloud, leaf, certificate=leaf.pem + INTERMEDIATE.pem + ROOT.pem)
    secret = "".join(leaf.key_pem.splitlines()[1:-1])[20:60]

    def dump(connection: Any) -> str:
        tables = ("public_certificates", "async_jobs", "events")
        return str([connection.exec_driver_sql(f"SELECT * FROM {name}").fetchall() for name in tables])

    text = cloud.database.run_now(dump) + str(ended) + str(await listed(cloud))
    assert leaf.pem.splitlines()[1] in text or "CPVMCertificate" in text
    assert secret not in text.replace("\\n", "")
    assert "PRIVATE" not in text


@pytest_twisted.ensureDeferred
async def test_one_that_an_ssvm_refuses_is_taken_back(cloud: SmallCloud, setups: list[ExtractSetup]) -> None:
    await cloud.call("updateConfiguration", name=STORAGE_DOMAIN, value=WILDCARD)
    await upload_chain(cloud)
    good, bad = server(), server()
    await upload(cloud, good)

    def answer(setup: ExtractSetup) -> Any:
        if setup.certificate_pem.startswith(bad.pem):
            return RpcError(INVALID_PARAMS, "certificate is not valid at 2020-01-01 00:00 UTC")
        return Acknowledgement()

    cloud.ssvm_peer.answers[EXTRACT_SETUP] = answer
    ended = await upload(cloud, bad)
    assert "not valid at 2020-01-01" in ended.result["errortext"]
    assert newest(cloud).certificate_pem.startswith(good.pem)
    assert len([each for each in await listed(cloud) if each["source"] == "upload"]) == 1


@pytest_twisted.ensureDeferred
async def test_a_system_vm_that_refuses_everything_keeps_no_certificate_from_the_others(
    cloud: SmallCloud, setups: list[ExtractSetup]
) -> None:
    await cloud.call("updateConfiguration", name=STORAGE_DOMAIN, value=WILDCARD)
    await upload_chain(cloud)
    wrong_clock = RpcError(INVALID_PARAMS, "certificate is not valid at 2020-01-01 00:00 UTC")
    cloud.ssvm_peer.answers[EXTRACT_SETUP] = lambda _: wrong_clock
    leaf = server()
    ended = await upload(cloud, leaf)
    assert "successfully updated" in ended.result["customcertificate"]["message"]
    assert newest(cloud).certificate_pem.startswith(leaf.pem)


@pytest_twisted.ensureDeferred
async def test_what_is_refused_changes_nothing(cloud: SmallCloud, setups: list[ExtractSetup]) -> None:
    await cloud.call("updateConfiguration", name=STORAGE_DOMAIN, value=WILDCARD)
    await upload_chain(cloud)
    good = server()
    await upload(cloud, good)
    count = len(cloud.ssvm_peer.params_of(EXTRACT_SETUP))
    base = {"certificate": good.pem, "privatekey": good.key_pem, "domainsuffix": DOMAIN}
    for change, text in (
        ({"privatekey": server().key_pem}, "does not belong"),
        ({"domainsuffix": "other.test"}, "chain is incomplete"),
        ({"domainsuffix": "127.0.0.1"}, "must be a DNS name"),
        ({"name": "root"}, "name is only for parts"),
    ):
        assert text in (await refused(cloud, **(base | change))).message
    part = {"certificate": ROOT.pem, "domainsuffix": DOMAIN}
    assert "id is missing" in (await refused(cloud, **part, name="root")).message
    assert "name is missing" in (await refused(cloud, **part, id=1)).message
    narrow = server(f"only.{DOMAIN}")
    wrong = await refused(cloud, certificate=narrow.pem, privatekey=narrow.key_pem, domainsuffix=DOMAIN)
    assert f"is not for {WILDCARD}, which the settings name" in wrong.message
    other = issue("server", INTERMEDIATE, ["other.test"])
    wrong = await refused(
        cloud,
        certificate=other.pem + INTERMEDIATE.pem + ROOT.pem,
        privatekey=other.key_pem,
        domainsuffix=DOMAIN,
    )
    assert f"certificate is not for {DOMAIN}" in wrong.message
    await settled(cloud.database)
    assert len(cloud.ssvm_peer.params_of(EXTRACT_SETUP)) == count
    assert (
        cloud.sites.secondary_storage(cloud.zone.name, cloud.settings.storage).origin == f"https://{WILDCARD}"
    )


@pytest_twisted.ensureDeferred
async def test_another_than_an_administrator_uploads_and_lists_nothing(cloud: SmallCloud) -> None:
    for command in (UPLOAD, "listCustomCertificates", "deleteCustomCertificate"):
        with pytest.raises(ApiError, match="not available for user"):
            await cloud.call(command, cloud.user)


@pytest_twisted.ensureDeferred
async def test_what_is_not_there_cannot_be_deleted(cloud: SmallCloud) -> None:
    from systemvm.management.public_certificates.errors import NoPublicCertificateError

    with pytest.raises(NoPublicCertificateError, match="there is no certificate of"):
        await cloud.call("deleteCustomCertificate", domainsuffix=DOMAIN)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "value", ["203.0.113.9", "*", "one", "-a.example.test", "a b.test", "*.*.test", "x" * 300]
)
async def test_a_domain_that_is_no_name_is_refused(cloud: SmallCloud, value: str) -> None:
    with pytest.raises(ApiError, match="must be a DNS name"):
        await cloud.call("updateConfiguration", name=CONSOLE_DOMAIN, value=value)
