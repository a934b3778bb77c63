# SPDX-License-Identifier: Apache-2.0
"""The daemon's services for tests, with a real database; agents, hypervisor and storage are fakes.

One zone with an image store, an SSVM and a CPVM whose agents are Up, and two logins: the administrator, and a
user who owns nothing yet.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field
from twisted.internet.task import Clock

from prepared_database import open_file
from small_cloud.agents import FakeAgents, FakePeer
from small_cloud.foundation import make_foundation
from small_cloud.guest_network_services import FakeGuestServices
from small_cloud.host_drivers import make_drivers, make_pools, make_variables
from small_cloud.hypervisor import FakeHypervisor
from small_cloud.parts import NamedParts
from small_cloud.pool_mounts import FakeMounter
from small_cloud.primary_storage import FakePrimary
from small_cloud.rows import add_system_vm, add_template, principal
from small_cloud.services import Peers, Services, make_services
from small_cloud.system_vms import FakeDiagnostics, FakeSystemVms
from small_cloud.text_recognizer import FakeRecognizer
from small_cloud.zone_settings import ChangeableSettings
from systemvm.host.zone import ConsoleConfig
from systemvm.management.api import envelope
from systemvm.management.api.command import CommandTable
from systemvm.management.api.factory import client_resource
from systemvm.management.api.http import ClientResource, PublicAddress
from systemvm.management.api.principal import Principal
from systemvm.management.config import Configuration
from systemvm.management.foreign_hosts.access import ApiExchange
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.pools import PrimaryPools
from systemvm.management.primary.uefi_variables import UefiVariables
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.state import instances, zones
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.jobs import Job
from systemvm.management.state.status import InstanceType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import Call, Caller
from systemvm.rpc.core.perform import perform
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadState

ORIGIN = "http://127.0.0.1:8080"
CONSOLE_ORIGIN = "https://cpvm.example.test:8443"


if TYPE_CHECKING:

    class EndedJob(Job):
        """A job that has its result."""

        result: dict[str, Any]


@define
class SmallCloud(NamedParts):
    """The services, connected as in the daemon, and the fakes around them."""

    database: Database
    seal: Seal
    zone: zones.Zone
    store: zones.ImageStore
    host: zones.Host
    ssvm: Instance
    cpvm: Instance
    admin: Principal
    user: Principal
    clock: Clock = field(factory=Clock)
    console: ConsoleConfig = field(factory=lambda: ConsoleConfig(origin=CONSOLE_ORIGIN))
    hypervisor: FakeHypervisor = field(factory=FakeHypervisor)
    agents: FakeAgents = field(factory=FakeAgents)
    recognizer: FakeRecognizer = field(factory=FakeRecognizer)
    guest_services: FakeGuestServices = field(factory=FakeGuestServices)
    host_peers: dict[str, ApiExchange] = field(factory=dict)  # the APIs of other hosts, by name or address
    host_names: dict[str, str] = field(factory=dict)  # addresses, by name

    ssvm_peer: FakePeer = field(init=False)
    primary: FakePrimary = field(init=False)
    uefi_variables: UefiVariables = field(init=False)
    mounter: FakeMounter = field(init=False)
    pools: PrimaryPools[FakePrimary] = field(init=False)
    system_vms: FakeSystemVms = field(init=False)
    diagnostics: FakeDiagnostics = field(init=False)
    configuration: Configuration = field(init=False)
    settings: ChangeableSettings = field(init=False)
    authority: ControlAuthority = field(init=False)
    sites: PublicSites = field(init=False)
    services: Services = field(init=False)
    table: CommandTable = field(init=False)

    def __attrs_post_init__(self) -> None:
        directory = Path(self.store.host_path or "").parent
        foundation = make_foundation(
            directory, self.database, self.seal, self.zone, self.host, lambda zone_name: self.console
        )
        self.configuration = foundation.configuration
        self.authority, self.sites = foundation.authority, foundation.sites
        self.settings = ChangeableSettings(foundation.configuration, foundation.sites)
        self.primary = FakePrimary(directory)
        self.uefi_variables = make_variables(foundation)
        self.mounter = FakeMounter(directory)
        self.pools = make_pools(foundation, self.primary, self.mounter)
        self.system_vms = FakeSystemVms(self.database)
        self.diagnostics = FakeDiagnostics(directory)
        self.ssvm_peer = self.agents.connect(self.ssvm.instance_name, Role.SSVM)
        self.ssvm_peer.answers["template.download"] = lambda _: RpcError(NOT_CONNECTED, "not now")
        self.agents.connect(self.cpvm.instance_name, Role.CPVM)
        self.services = make_services(
            self.clock,
            foundation,
            make_drivers(self.hypervisor, self.guest_services, self.primary, self.pools, self.uefi_variables),
            self.settings,
            Peers(
                agents=self.agents,
                recognizer=self.recognizer,
                system_vms=self.system_vms,
                diagnostics=self.diagnostics,
                hosts=self.host_peers,
                host_names=self.host_names,
            ),
        )
        self.table = self.services.commands
        self.name_parts(self.services)

    def client(self) -> ClientResource:
        """Return `/client` as the daemon serves it."""
        from twisted.internet import reactor

        accounts = self.services.accounts
        return client_resource(
            self.table,
            self.database,
            accounts.authenticator,
            accounts.second_factors,
            self.clock,
            PublicAddress.of(PublicEndpoint.parse(ORIGIN)),
            self.revocation,
            accounts.traffic,
            reactor.callFromThread,  # type: ignore[attr-defined]
        )

    async def call(self, command: str, as_user: Principal | None = None, /, **parameters: Any) -> Any:
        """Call a command and return what stands under `<command>response`."""
        found = self.table.find(command)
        result = await found.run(as_user or self.admin, parameters, "192.0.2.1", "request-1")
        return envelope.result_body(found, result)

    async def job(self, command: str, as_user: Principal | None = None, /, **parameters: Any) -> EndedJob:
        """Start an asynchronous command, and return its job once it has ended."""
        started = await self.call(command, as_user, **parameters)
        ended = await self.jobs.wait(started["jobid"])
        assert ended.result is not None
        return cast("EndedJob", ended)

    async def from_agent(self, vm: Instance, method: str, params: Any) -> Any:
        """Make a call of a system VM's agent, checked and converted as on the wire."""
        role = Role.SSVM if vm.type is InstanceType.SECONDARY_STORAGE else Role.CPVM
        call = Call(Caller(vm.instance_name, role.value), "request-2", None)
        return await perform(Clock(), self.agent_methods, call, method, params)

    def add_template(
        self,
        *,
        state: DownloadState = DownloadState.DOWNLOADED,
        owner: Principal | None = None,
        **columns: Any,
    ) -> tuple[Template, StoreRef]:
        """Add a template that exists already."""
        return self.database.run_now(
            add_template, self.zone.id, self.store.id, state, owner or self.admin, columns
        )

    def add_system_vm(self, kind: InstanceType) -> Instance:
        return self.database.run_now(add_system_vm, kind, self.zone.id, self.host.id)

    def update_instance(self, vm: Instance, **changes: Any) -> Instance:
        return self.database.run_now(instances.update, vm.id, **changes)

    def instance(self, vm_id: int) -> Instance:
        return self.database.run_now(instances.by_id, vm_id)


def make(directory: Path, pristine: Path, hypervisor: FakeHypervisor | None = None) -> SmallCloud:
    """Return a cloud in `directory`, on a copy of a filled database file."""
    shutil.copy(pristine, directory / "systemvm.sqlite")
    shutil.copy(pristine.with_name("seal.key"), directory / "seal.key")
    secondary = directory / "secondary"
    secondary.mkdir()
    database = open_file(directory / "systemvm.sqlite")
    [store] = database.run_now(zones.list_stores)
    store = database.run_now(zones.store_rows.update, store.id, host_path=str(secondary))
    ssvm, cpvm = database.run_now(instances.list_system)
    return SmallCloud(
        database=database,
        seal=Seal.open_key(directory),
        zone=database.run_now(zones.list_zones)[0],
        store=store,
        host=database.run_now(zones.list_hosts)[0],
        ssvm=ssvm,
        cpvm=cpvm,
        admin=database.run_now(principal, "admin"),
        user=database.run_now(principal, "ulla"),
        hypervisor=hypervisor or FakeHypervisor(),
    )
