# SPDX-License-Identifier: Apache-2.0
"""Copies between zones: the SSVM of one zone downloads a link that the SSVM of the other one serves."""

from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_twisted
from attrs import define, evolve

from public_pki import DOMAIN, INTERMEDIATE, ROOT, WILDCARD, server
from settling import settled
from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.state import events, schema, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.templates import downloads
from systemvm.management.templates.copy_links import LIFETIME, RENEW_INTERVAL_S, CopyLinks
from systemvm.management.templates.copy_orders import MAX_COPY_FAILURES
from systemvm.management.templates.sources import RegisteredSource, TemplateSources
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_LINKS, EXTRACT_SETUP, ExtractLink, ExtractLinks
from systemvm.wire.role import Role
from systemvm.wire.source_access import SourceAccess, SourceCredentials, SourceProxy
from systemvm.wire.source_networks import SsvmAddress
from systemvm.wire.storage import DownloadError, DownloadRequest, DownloadState, DownloadStatus

READY, BEGUN, FAILED, WAITING = (
    DownloadState.DOWNLOADED,
    DownloadState.DOWNLOAD_IN_PROGRESS,
    DownloadState.DOWNLOAD_ERROR,
    DownloadState.NOT_DOWNLOADED,
)
ADDRESS = "203.0.113.101"


@define
class TwoZones:
    """A Ready template in zone1, and a copy that zone2 wants."""

    cloud: SmallCloud
    template: Template
    source: StoreRef
    ref: StoreRef
    there: FakePeer  # the SSVM of zone2
    vm: Instance

    @property
    def here(self) -> FakePeer:
        return self.cloud.ssvm_peer

    def now(self) -> StoreRef:
        return self.cloud.database.run_now(templates.store_refs.by_id, self.ref.id)

    def links(self) -> list[ExtractLink]:
        return [link for order in self.here.params_of(EXTRACT_LINKS) for link in order.links]

    def ordered(self) -> list[DownloadRequest]:
        found: list[DownloadRequest] = self.there.params_of(storage.TEMPLATE_DOWNLOAD)
        return found


@pytest.fixture
def two(cloud: SmallCloud) -> TwoZones:
    for method in (EXTRACT_SETUP, EXTRACT_LINKS):
        cloud.ssvm_peer.answers[method] = lambda _: Acknowledgement()
    zone = cloud.database.run_now(zones.put_zone, "zone2", arch="amd64")
    store = cloud.database.run_now(
        zones.add_store, name="far", zone_id=zone.id, url="nfs://10.22.0.2/far", nfs_version="4.2"
    )
    vm = cloud.add_system_vm(InstanceType.SECONDARY_STORAGE)
    cloud.update_instance(vm, zone_id=zone.id)
    there = cloud.agents.connect(vm.instance_name, Role.SSVM)
    there.answers[storage.TEMPLATE_DOWNLOAD] = begun
    template, source = cloud.add_template()
    source = cloud.database.run_now(
        templates.update_store_ref, source.id, image_checksum="{SHA-256}ab", physical_size_bytes=5 << 30,
        install_path=f"template/tmpl/7/304/{'a' * 8}.qcow2",
    )  # fmt: skip
    ref = cloud.database.run_now(templates.add_store_ref, template.id, store.id, "request-1")
    return TwoZones(cloud, template, source, ref, there, vm)


def begun(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(request.job_id, BEGUN, 1, 10)


@pytest_twisted.ensureDeferred
async def test_the_other_zone_downloads_a_link_of_this_one(two: TwoZones) -> None:
    await two.cloud.dispatch.reconcile()
    [link], [request] = two.links(), two.ordered()
    assert request.url == f"https://{ADDRESS}{link.path}"
    assert link.path.endswith(".qcow2")
    assert (link.store, link.account_id, link.template_id) == (two.cloud.store.wire, 7, 304)
    assert LIFETIME.total_seconds() - 300 < link.expires_unix_s - time.time() <= LIFETIME.total_seconds()
    assert request.source_server == SsvmAddress(ADDRESS, 443)
    assert request.checksum == "{SHA-256}ab", "the digest of the file on the store"
    assert request.max_size_bytes >= 5 << 30
    assert two.now().source_ref_id == two.source.id
    assert two.there.params_of(storage.TEMPLATE_COPY) == []


@pytest_twisted.ensureDeferred
async def test_the_source_zones_certificate_is_trusted_and_no_login_is_sent(two: TwoZones) -> None:
    login = RegisteredSource(SourceCredentials("me", "secret"))
    two.cloud.database.run_now(TemplateSources(two.cloud.seal).register, two.template.id, login)
    await two.cloud.dispatch.reconcile()
    [request] = two.ordered()
    assert request.access == SourceAccess(proxy=SourceProxy("10.11.0.9")), "the zone's proxy and no login"
    assert request.source_ca_pem is not None
    assert two.cloud.copy_links._roots_pem().decode() in request.source_ca_pem


@pytest_twisted.ensureDeferred
async def test_an_uploaded_certificate_of_the_source_zone_is_trusted_by_its_name(two: TwoZones) -> None:
    leaf = server()
    text = leaf.pem + INTERMEDIATE.pem + ROOT.pem
    given = {"certificate": text, "privatekey": leaf.key_pem, "domainsuffix": DOMAIN}
    await two.cloud.job("uploadCustomCertificate", **given)
    await two.cloud.call("updateConfiguration", name="secstorage.ssl.cert.domain", value=WILDCARD)
    await two.cloud.dispatch.reconcile()
    [link], [request] = two.links(), two.ordered()
    assert request.url == f"https://{ADDRESS.replace('.', '-')}.{DOMAIN}{link.path}"
    assert request.source_server == SsvmAddress(ADDRESS, 443), "whatever DNS says there"
    assert request.source_ca_pem is not None
    assert ROOT.pem in request.source_ca_pem


@pytest_twisted.ensureDeferred
async def test_a_restart_of_the_daemon_makes_the_same_link(two: TwoZones) -> None:
    await two.cloud.dispatch.reconcile()
    two.cloud.dispatch.agent_up(two.vm.instance_name)
    two.cloud.clock.advance(31)
    await two.cloud.dispatch.reconcile()
    first, second = two.ordered()
    assert (first.url, first.content_id) == (second.url, second.content_id)
    other = two.cloud.seal.derive_uuid("link of copy another")
    assert other not in first.url


@pytest_twisted.ensureDeferred
async def test_a_source_ssvm_that_connects_again_gets_the_links_of_running_copies(two: TwoZones) -> None:
    await two.cloud.dispatch.reconcile()
    [link] = two.links()
    two.here.calls.clear()
    await two.cloud.extraction.agent_up(two.cloud.ssvm.instance_name)
    [again] = two.here.params_of(EXTRACT_LINKS)
    assert again.is_first
    assert [each.path for each in again.links] == [link.path]
    two.cloud.database.run_now(templates.update_store_ref, two.ref.id, state=READY)
    two.here.calls.clear()
    await two.cloud.extraction.agent_up(two.cloud.ssvm.instance_name)
    assert two.here.params_of(EXTRACT_LINKS) == [ExtractLinks([], is_first=True)], "it has ended"


@pytest_twisted.ensureDeferred
async def test_links_of_copies_that_run_are_renewed_before_they_expire(two: TwoZones) -> None:
    assert LIFETIME.total_seconds() / 2 > RENEW_INTERVAL_S
    await two.cloud.dispatch.reconcile()
    two.here.calls.clear()
    await two.cloud.copy_links.renew()
    [link] = two.links()
    assert link.expires_unix_s - time.time() > LIFETIME.total_seconds() - 300
    two.cloud.database.run_now(templates.update_store_ref, two.ref.id, state=READY)
    two.here.calls.clear()
    await two.cloud.copy_links.renew()
    await settled(two.cloud.database)
    [withdrawn] = two.links()
    assert withdrawn == evolve(link, expires_unix_s=0.0)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("end", ["ready", "failed", "deleted"])
async def test_a_link_is_withdrawn_when_its_copy_ends(two: TwoZones, end: str) -> None:
    await two.cloud.dispatch.reconcile()
    [link] = two.links()
    two.here.calls.clear()
    if end == "deleted":
        for method in (storage.TEMPLATE_ABORT, storage.TEMPLATE_DELETE):
            two.there.answers[method] = lambda _: Acknowledgement()
        two.cloud.database.run_now(templates.update_store_ref, two.ref.id, delete_requested=now())
        await two.cloud.dispatch.reconcile()
    else:
        two.there.answers[storage.TEMPLATE_DOWNLOAD] = lambda _: RpcError.refused("busy", "later")
        status = failing(two.ordered()[0]) if end == "failed" else done(two.now().job_id)
        await finish(two, status)
    await settled(two.cloud.database)
    assert evolve(link, expires_unix_s=0.0) in two.links()
    assert [each for each in two.links() if each.path == link.path and each.expires_unix_s] == []
    two.here.calls.clear()
    two.cloud.copy_links.ended()
    await settled(two.cloud.database)
    assert [each for each in two.links() if each.path == link.path] == [], "once"


@pytest_twisted.ensureDeferred
async def test_a_link_of_a_copy_that_runs_is_not_withdrawn(two: TwoZones) -> None:
    await two.cloud.dispatch.reconcile()
    two.here.calls.clear()
    two.cloud.copy_links.ended()
    await settled(two.cloud.database)
    assert two.links() == []


@pytest_twisted.ensureDeferred
async def test_a_new_daemon_withdraws_links_that_it_has_only_repeated(two: TwoZones) -> None:
    await two.cloud.dispatch.reconcile()
    [link] = two.links()
    cloud = two.cloud
    new = CopyLinks(cloud.clock, cloud.database, cloud.agents, cloud.settings, cloud.seal, lambda: b"")
    assert [each.path for each in await new.links_of_zone(cloud.zone.id)] == [link.path]
    cloud.database.run_now(templates.update_store_ref, two.ref.id, state=READY)
    two.here.calls.clear()
    new.ended()
    await settled(cloud.database)
    assert [(each.path, each.expires_unix_s) for each in two.links()] == [(link.path, 0.0)]


@pytest_twisted.ensureDeferred
async def test_a_copy_waits_for_the_ssvm_of_its_source_and_says_so(two: TwoZones) -> None:
    two.cloud.agents.disconnect(two.cloud.ssvm.instance_name)
    await two.cloud.dispatch.reconcile()
    waits = two.now()
    assert (waits.state, waits.error_code, waits.agent_name) == (WAITING, "no_source", None)
    hint = "Waiting for a secondary storage VM of zone zone1, which has the template, to come Up."
    assert waits.error_hint == hint
    assert two.ordered() == []
    assert hint in [
        each.description.partition(" ")[2] for each in two.cloud.database.run_now(events.newest, 5)
    ]
    peer = two.cloud.agents.connect(two.cloud.ssvm.instance_name, Role.SSVM)
    peer.answers[EXTRACT_LINKS] = lambda _: Acknowledgement()
    two.cloud.clock.advance(120)
    await two.cloud.dispatch.reconcile()
    assert len(two.ordered()) == 1
    assert two.now().state is BEGUN


@pytest_twisted.ensureDeferred
async def test_a_begun_copy_keeps_its_ssvm_while_its_source_is_away(two: TwoZones) -> None:
    await two.cloud.dispatch.reconcile()
    two.cloud.agents.disconnect(two.cloud.ssvm.instance_name)
    two.cloud.clock.advance(31)
    await two.cloud.dispatch.reconcile()
    waits = two.now()
    assert (waits.state, waits.agent_name) == (BEGUN, two.vm.instance_name)
    assert waits.error_code == "no_source"
    await finish(two, done(waits.job_id))
    assert (two.now().state, two.now().error_code) == (READY, None)


@pytest_twisted.ensureDeferred
async def test_a_copy_that_waits_at_its_ssvm_needs_no_slot_and_is_asked_again(two: TwoZones) -> None:
    """The SSVM of the source is back under another address: the same job gets the new link."""
    waiting = lambda request: DownloadStatus(request.job_id, BEGUN, 5, 10, waits_for_source=True)  # noqa: E731
    two.there.answers[storage.TEMPLATE_DOWNLOAD] = waiting
    await two.cloud.dispatch.reconcile()
    waits = two.now()
    assert (waits.state, waits.error_code, waits.received_bytes) == (BEGUN, "no_source", 5)
    assert downloads.needs_no_slot(waits)
    moved = "203.0.113.77"
    two.cloud.database.run_now(
        lambda c: c.execute(
            schema.nics.update().where(schema.nics.c.address == ADDRESS).values(address=moved)
        )
    )
    two.cloud.clock.advance(20)
    vm = evolve(two.vm, type=InstanceType.SECONDARY_STORAGE)
    await two.cloud.from_agent(vm, storage.TEMPLATE_PROGRESS, waiting(two.ordered()[0]))
    two.cloud.clock.advance(11)
    await two.cloud.dispatch.reconcile()
    first, again = two.ordered()
    assert (again.job_id, again.content_id) == (first.job_id, first.content_id)
    assert (again.source_server, again.url.partition("/userdata/")[0]) == (
        SsvmAddress(moved, 443), f"https://{moved}",
    )  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_a_waiting_copy_keeps_the_better_reason_and_makes_one_event(two: TwoZones) -> None:
    waiting = lambda request: DownloadStatus(request.job_id, BEGUN, 5, 10, waits_for_source=True)  # noqa: E731
    two.there.answers[storage.TEMPLATE_DOWNLOAD] = waiting
    await two.cloud.dispatch.reconcile()
    two.cloud.agents.disconnect(two.cloud.ssvm.instance_name)
    vm = evolve(two.vm, type=InstanceType.SECONDARY_STORAGE)
    for _ in range(3):
        two.cloud.clock.advance(121)
        await two.cloud.dispatch.reconcile()
        await two.cloud.from_agent(vm, storage.TEMPLATE_PROGRESS, waiting(two.ordered()[0]))
        assert "zone zone1" in (two.now().error_hint or "")
    found = [each.description for each in two.cloud.database.run_now(events.newest, 50)]
    assert len([text for text in found if "zone zone1" in text]) == 1


@pytest_twisted.ensureDeferred
async def test_a_waiting_copy_whose_source_is_deleted_is_aborted(two: TwoZones) -> None:
    waiting = lambda request: DownloadStatus(request.job_id, BEGUN, 5, 10, waits_for_source=True)  # noqa: E731
    two.there.answers |= {
        storage.TEMPLATE_DOWNLOAD: waiting,
        storage.TEMPLATE_ABORT: lambda _: Acknowledgement(),
    }
    two.cloud.database.run_now(templates.update, two.template.id, url=None)
    await two.cloud.dispatch.reconcile()
    two.cloud.database.run_now(templates.update_store_ref, two.source.id, delete_requested=now())
    two.cloud.clock.advance(31)
    await two.cloud.dispatch.reconcile()
    assert (two.now().state, two.now().error_code) == (FAILED, "source_missing")
    assert [each.job_id for each in two.there.params_of(storage.TEMPLATE_ABORT)] == [two.now().job_id]


@pytest_twisted.ensureDeferred
async def test_ssvms_that_serve_no_links_leave_it_to_a_copy_between_the_stores(two: TwoZones) -> None:
    two.here.answers[EXTRACT_LINKS] = lambda _: RpcError(METHOD_NOT_FOUND, "an older image")
    two.there.answers[storage.TEMPLATE_COPY] = begun
    await two.cloud.dispatch.reconcile()
    [request] = two.there.params_of(storage.TEMPLATE_COPY)
    assert request.source == two.cloud.store.wire
    assert two.ordered() == []


@pytest_twisted.ensureDeferred
async def test_an_ssvm_that_cannot_serve_now_is_named(two: TwoZones) -> None:
    two.here.answers[EXTRACT_LINKS] = lambda _: RpcError.refused("internal", "serve cannot be started")
    await two.cloud.dispatch.reconcile()
    assert "s-1-VM: serve cannot be started" in (two.now().error_hint or "")
    assert two.now().state is WAITING


def done(job_id: str) -> DownloadStatus:
    return DownloadStatus(job_id, READY, 10, 10, install_path="template/tmpl/2/7/x.qcow2")


async def finish(two: TwoZones, status: DownloadStatus) -> None:
    vm = evolve(two.vm, type=InstanceType.SECONDARY_STORAGE)
    await two.cloud.from_agent(vm, storage.TEMPLATE_FINISHED, status)


def failing(request: DownloadRequest) -> DownloadStatus:
    return DownloadStatus(request.job_id, FAILED, error=DownloadError("stalled", "no byte for 60 s"))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("url", ["https://images.example.test/a.qcow2", None])
async def test_failed_links_are_repeated_and_then_the_url_is_asked(two: TwoZones, url: str | None) -> None:
    two.cloud.database.run_now(templates.update, two.template.id, url=url)
    two.there.answers[storage.TEMPLATE_DOWNLOAD] = failing
    for _ in range(MAX_COPY_FAILURES + 2):
        await two.cloud.dispatch.reconcile()
    urls = [request.url for request in two.ordered()]
    assert len(set(urls[:MAX_COPY_FAILURES])) == MAX_COPY_FAILURES, "each attempt has a secret of its own"
    last = urls[MAX_COPY_FAILURES]
    assert last == url if url else last.startswith(f"https://{ADDRESS}/userdata/")
    assert (two.now().state, two.now().error_code) == (FAILED, "stalled")


@pytest_twisted.ensureDeferred
async def test_a_fixed_origin_is_for_browsers_and_an_ssvm_uses_the_address(two: TwoZones) -> None:
    two.cloud.settings.storage = SecondaryStorageConfig(origin="https://127.0.0.1:8444/images")
    await two.cloud.dispatch.reconcile()
    [request] = two.ordered()
    assert request.url.startswith(f"https://{ADDRESS}/images/userdata/")
    assert request.source_server == SsvmAddress(ADDRESS, 443)


@pytest_twisted.ensureDeferred
async def test_a_domain_of_the_zone_is_used_with_its_port(two: TwoZones) -> None:
    two.cloud.settings.storage = SecondaryStorageConfig(origin="https://*.images.example.test:8443")
    await two.cloud.dispatch.reconcile()
    [request] = two.ordered()
    assert request.url.startswith("https://203-0-113-101.images.example.test:8443/userdata/")
    assert request.source_server == SsvmAddress(ADDRESS, 8443)


def test_a_secret_belongs_to_its_purpose_and_key(two: TwoZones) -> None:
    seal: Any = two.cloud.seal
    assert seal.derive_uuid("a") == seal.derive_uuid("a") != seal.derive_uuid("b")
    assert type(seal)(b"x" * 32).derive_uuid("a") != type(seal)(b"y" * 32).derive_uuid("a")
