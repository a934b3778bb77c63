# SPDX-License-Identifier: Apache-2.0
"""Stores and certificates are set up before an agent is Up, and checked while it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest
import pytest_twisted
from cryptography import x509
from msgspec.structs import force_setattr

from systemvm.management.control.agent import Agent, NotReadyError
from systemvm.management.housekeeping import Housekeeping
from systemvm.management.image_stores.buckets import StoreKeys
from systemvm.management.pki.public import PublicAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.pools import StorageByPool
from systemvm.management.public_certificates.certificate_cache import CertificateCache
from systemvm.management.public_certificates.files import CertificateFile
from systemvm.management.public_certificates.remarks import EVENT
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.state import configurations, events, jobs, zones
from systemvm.management.state.events import EventFilter
from systemvm.management.state.status import AgentState, JobStatus
from systemvm.management.system_vms.operations import SystemVmOperations
from systemvm.management.system_vms.preparation import AgentPreparation
from systemvm.management.templates.copies import TemplateCopies, TemplateStorage
from systemvm.rpc.core.call import Call, Caller
from systemvm.rpc.core.errors import DEADLINE, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.stream.peer_credentials import OPERATOR
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import CHECK, CheckReport, CheckStep, Health, Hello
from systemvm.wire.console import ConsoleSetup
from systemvm.wire.role import Role
from systemvm.wire.slowness import MachineLoad
from systemvm.wire.source_networks import SourceNetworks
from systemvm.wire.storage import Store, StoreStats


class FakePeer:
    """An agent's connection with prepared answers."""

    def __init__(self, name: str) -> None:
        self.caller = Caller(name, "ssvm")
        self.calls: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {
            "storage.setup": StoreStats(1000, 10),
            "storage.stats": StoreStats(1000, 500),
        }

    async def call(self, method: str, params: Any = None, **options: Any) -> Any:
        self.calls.append((method, params))
        answer = self.answers.get(method)
        if callable(answer):
            answer = answer(params)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def preparations(host: Any) -> AgentPreparation:
    configuration = host.configuration
    page = configuration.management.page.endpoint
    public = PublicAuthority.open(configuration.layout.pki, configuration.zones, page)
    seal = Seal(bytes(32))
    sites = PublicSites(lambda name: configuration.zone(name).console, public, CertificateCache(seal))
    made = AgentPreparation(host.database, host.configuration, host.directory, sites, StoreKeys(seal))
    made.subscribe()
    return made


async def connected(host: Any, name: str) -> tuple[Agent, FakePeer]:
    agent = host.directory.agent(name)
    peer = FakePeer(name)
    hello = Hello(1, name, agent.role.value, "0", "0", "0", "b", 0.0)
    host.directory.connected(agent, peer, hello)
    await host.directory.came_up(agent)
    return agent, peer


@pytest_twisted.ensureDeferred
async def test_ssvm_mounts_the_stores_of_its_zone(host: Any, preparations: AgentPreparation) -> None:
    await host.reconciler.scan()
    agent, peer = await connected(host, "s-1-VM")
    assert host.directory.preparations(Role.SSVM) == [preparations.mount_stores]
    await preparations.mount_stores(agent)
    assert peer.calls == [
        ("storage.sources", SourceNetworks()),
        ("storage.setup", Store("10.12.0.2", "/export/secondary", "4.2")),
    ]
    [store] = await host.database.read(zones.list_stores)
    assert (store.capacity_bytes, store.used_bytes) == (1000, 10)
    peer.answers["storage.setup"] = RpcError.refused("mount_failed", "no route to host")
    with pytest.raises(NotReadyError, match="has no store: no route to host"):
        await preparations.mount_stores(agent)


@pytest_twisted.ensureDeferred
async def test_a_running_ssvm_gets_the_sites_and_the_proxy_of_a_changed_file(
    host: Any, preparations: AgentPreparation
) -> None:
    await host.reconciler.scan()
    agent, peer = await connected(host, "s-1-VM")
    zone = host.configuration.zone("zone1")
    force_setattr(zone, "allowed_internal_sites", ["10.11.0.50"])
    force_setattr(zone, "secstorage_proxy", "http://me:secret@10.11.0.9")
    peer.answers["storage.sources"] = RpcError(METHOD_NOT_FOUND, "an older agent")
    await preparations.mount_stores(agent)
    assert peer.calls[0] == ("storage.sources", SourceNetworks(["10.11.0.50"], "10.11.0.9:3128"))
    assert agent.is_up


@pytest_twisted.ensureDeferred
async def test_unresponsive_store_is_shown_beside_up(host: Any, preparations: AgentPreparation) -> None:
    await host.reconciler.scan()
    agent, peer = await connected(host, "s-1-VM")
    hangs = "NFS server 10.12.0.2 takes connections and does not answer"
    peer.answers["storage.stats"] = RpcError(DEADLINE, "s-1-VM did not answer storage.stats in 20 s")
    peer.answers["storage.setup"] = RpcError.refused("mount_failed", hangs, "restart it")
    await preparations.measure_stores(agent)
    assert agent.is_up
    assert (agent.status.reason, agent.status.hint) == (f"has no store: {hangs}", "restart it")
    # a store that a second mount repairs is not reported
    peer.answers["storage.setup"] = StoreStats(1000, 20)
    await preparations.measure_stores(agent)
    assert agent.is_up
    assert agent.status.reason == ""
    [store] = await host.database.read(zones.list_stores)
    assert store.used_bytes == 20


@pytest_twisted.ensureDeferred
async def test_a_name_without_a_certificate_is_shown_beside_up(
    host: Any, preparations: AgentPreparation
) -> None:
    await host.reconciler.scan()
    agent, _ = await connected(host, "s-1-VM")
    proxy, cpvm = await connected(host, "v-2-VM")
    for name in ("secstorage.ssl.cert.domain", "consoleproxy.url.domain"):
        await host.database.run(configurations.put, name, None, "*.nobody.example.org")
    await host.database.read(preparations._sites.load)
    await preparations.measure_stores(agent)
    assert await preparations.send_certificates() == []
    for each in (agent, proxy):
        assert each.is_up
        assert "no valid certificate is for *.nobody.example.org" in each.status.reason
        assert "systemvm certificate public upload" in each.status.hint
    cpvm.answers["console.setup"] = RpcError(INVALID_PARAMS, "certificate is not valid at 2020-01-01")
    [refused] = await preparations.send_certificates()
    assert refused == "v-2-VM: certificate is not valid at 2020-01-01"
    step = preparations.check_certificate("v-2-VM")
    assert step is not None and step.status == "warning"
    assert "certificate is not valid at 2020-01-01" in step.text
    cpvm.answers["console.setup"] = Acknowledgement()
    assert await preparations.send_certificates() == []
    step = preparations.check_certificate("v-2-VM")
    assert step is not None and step.status == "good"
    await host.database.run(configurations.reset, "secstorage.ssl.cert.domain", None)
    await host.database.read(preparations._sites.load)
    await preparations.measure_stores(agent)
    assert agent.status.reason == ""


@pytest_twisted.ensureDeferred
async def test_an_ssvm_with_one_of_two_stores_is_up_and_names_the_other(
    host: Any, preparations: AgentPreparation
) -> None:
    await host.reconciler.scan()
    agent, peer = await connected(host, "s-1-VM")
    [first] = await host.database.read(zones.list_stores)
    await host.database.run(
        zones.add_store, name="second", zone_id=first.zone_id, url="nfs://10.12.0.3/export", nfs_version="3"
    )

    def setup(store: Store) -> Any:
        return (
            StoreStats(1000, 10) if store.server == "10.12.0.2" else RpcError.refused("mount_failed", "gone")
        )

    peer.answers["storage.setup"] = setup
    await preparations.mount_stores(agent)
    assert agent.up_status().reason == "cannot use store second: gone"
    peer.answers["storage.setup"] = StoreStats(1000, 10)
    await preparations.measure_stores(agent)
    assert agent.up_status().reason == ""
    peer.answers["storage.setup"] = RpcError.refused("mount_failed", "no route to host")
    with pytest.raises(NotReadyError, match="has no store: no route to host"):
        await preparations.mount_stores(agent)


@pytest_twisted.ensureDeferred
async def test_store_does_not_change_the_status_of_a_lost_agent(
    host: Any, preparations: AgentPreparation
) -> None:
    await host.reconciler.scan()
    agent, _ = await connected(host, "s-1-VM")
    host.directory.lost(agent.peer, "gone")
    with pytest.raises(RpcError):
        await preparations.measure_stores(agent)
    assert "lost its connection" in agent.status.reason


@pytest_twisted.ensureDeferred
async def test_cpvm_gets_a_certificate_for_the_advertised_origin(
    host: Any, preparations: AgentPreparation
) -> None:
    await host.reconciler.scan()
    agent, peer = await connected(host, "v-2-VM")
    await preparations.set_up_console(agent)
    [(method, setup)] = peer.calls
    assert method == "console.setup"
    assert isinstance(setup, ConsoleSetup)
    assert setup.origin == "https://127.0.0.1:8443"
    leaf = x509.load_pem_x509_certificates(setup.certificate_pem.encode())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert "PRIVATE KEY" in setup.private_key_pem
    assert "PRIVATE KEY" not in repr(setup)


@pytest_twisted.ensureDeferred
async def test_check_ends_with_the_certificate_that_browsers_see(
    host: Any, preparations: AgentPreparation
) -> None:
    await host.reconciler.scan()
    agent, peer = await connected(host, "v-2-VM")
    peer.answers[CHECK] = CheckReport([CheckStep("agent", "good", "Agent is Up")])
    operations = SystemVmOperations(
        host.database, host.directory, None, None, preparations, host.configuration.layout.logs, host.clock,  # type: ignore[arg-type]
    )  # fmt: skip
    table = MethodTable("operators", "1")
    operations.add_methods(table)
    call = Call(Caller("uid:0", OPERATOR), "r1", None)
    before = await table.dispatch(call, "system_vm.check", {"name": "v-2-VM"})
    assert [step.name for step in before.steps] == ["agent"]
    await preparations.set_up_console(agent)
    after = await table.dispatch(call, "system_vm.check", {"name": "v-2-VM"})
    assert [(step.name, step.status) for step in after.steps] == [("agent", "good"), ("certificate", "good")]
    assert "certificate of 127.0.0.1 is valid until" in after.steps[-1].text


@pytest_twisted.ensureDeferred
async def test_housekeeping_measures_renews_and_expires(host: Any, preparations: AgentPreparation) -> None:
    await host.reconciler.scan()
    _, ssvm = await connected(host, "s-1-VM")
    _, cpvm = await connected(host, "v-2-VM")
    assert host.directory.agent("s-1-VM").status.state is AgentState.UP
    pools = cast("StorageByPool[TemplateStorage]", None)  # there is no copy
    copies = TemplateCopies(host.database, pools, host_id=host.host_id)
    keeping = Housekeeping(
        host.clock, host.database, host.directory, preparations, copies, job_expiry=timedelta(0)
    )
    await keeping.measure_stores()
    await keeping.measured()
    await keeping.renew_certificates()
    assert [method for method, _ in ssvm.calls] == ["storage.stats"]
    assert [method for method, _ in cpvm.calls] == ["console.setup"]
    [store] = await host.database.read(zones.list_stores)
    assert store.used_bytes == 500

    page = CertificateFile(
        "page.certificate_file", host.configuration.layout.root / "no.pem", "cloud.example"
    )
    reporting = Housekeeping(
        host.clock,
        host.database,
        host.directory,
        preparations,
        copies,
        job_expiry=timedelta(0),
        sites=preparations._sites,
        files=[page],
    )
    await reporting.report_certificates()
    [event] = await host.database.read(events.newest, 5, EventFilter(type=EVENT))
    assert "page.certificate_file cannot be read" in event.description

    old = await host.database.run(jobs.create, command="a", arguments={}, account_id=1)
    waits = await host.database.run(jobs.create, command="b", arguments={}, account_id=1)
    await host.database.run(jobs.finish, old.uuid, JobStatus.SUCCEEDED, 0, {})
    await keeping.forget()
    left = await host.database.read(jobs.list_all)
    assert [job.uuid for job in left] == [waits.uuid]


@pytest_twisted.ensureDeferred
async def test_busy_guest_is_reported_instead_of_its_nfs_server(
    host: Any, preparations: AgentPreparation
) -> None:
    await host.reconciler.scan()
    agent, peer = await connected(host, "s-1-VM")
    busy = MachineLoad(timeout_scale=20, slowdown=5, load_1min=9, is_busy=True)
    agent.health = Health(1.0, 9.0, 1, 1, 1, 1, [], 0, load=busy)
    peer.answers["storage.setup"] = RpcError(DEADLINE, "s-1-VM did not answer storage.setup in 190 s")
    with pytest.raises(NotReadyError, match=r"is busy: load 9.0, 5 times slower") as busy_status:
        await preparations.mount_stores(agent)
    assert "NFS" not in busy_status.value.status.reason + busy_status.value.status.hint
    # the guest's own measurement takes precedence over its load
    hangs = "NFS server 10.12.0.2 takes connections and does not answer"
    peer.answers["storage.setup"] = RpcError.refused("store_hangs", hangs, "restart it")
    with pytest.raises(NotReadyError, match=f"has no store: {hangs}"):
        await preparations.mount_stores(agent)
