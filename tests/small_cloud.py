# SPDX-License-Identifier: Apache-2.0
"""A cloud for tests of the daemon's services: a real database; agents, hypervisor and storage are fakes.

One zone with an image store, an SSVM and a CPVM whose agents are Up, and two logins: the administrator, and a
user who owns nothing yet.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import argon2
import sqlalchemy as sa
from attrs import define, field
from twisted.internet.task import Clock

from systemvm.host.zone import AddressRange, NetworkConfig, NetworksConfig
from systemvm.management.accounts.service import AccountService
from systemvm.management.api import envelope
from systemvm.management.api.authentication import Authenticator, principal_of
from systemvm.management.api.command import CommandTable
from systemvm.management.api.commands.system_vms import SystemVmControl
from systemvm.management.api.factory import ApiServices, client_resource, command_table
from systemvm.management.api.http import ClientResource, PublicAddress
from systemvm.management.api.job_start import describe_job_error
from systemvm.management.api.passwords import PasswordService
from systemvm.management.api.principal import Principal
from systemvm.management.consoles.authorizer import ConsoleAuthorizer
from systemvm.management.consoles.endpoint import ConsoleEndpoints
from systemvm.management.consoles.revocation import ConsoleRevocation
from systemvm.management.control.ca_rotation import CaRotation
from systemvm.management.control.certificate_service import CertificateService
from systemvm.management.control.certificates import AgentCertificates
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.hypervisors.base import (
    DomainSpec,
    DomainState,
    DomainStatus,
    ExitCallback,
    ExitReason,
    Hypervisor,
)
from systemvm.management.jobs.runner import JobRunner
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts, instances, templates, zones
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.jobs import Job
from systemvm.management.state.status import AccountType, AgentState, InstanceState, InstanceType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.system_vms.diagnostics import DiagnosticsResult
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.service import TemplateService
from systemvm.management.templates.store_usage import StoreUsage
from systemvm.management.virtual_machines.machine import UserVmBuilder
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.perform import perform
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadState, ImageFormat, Store

ORIGIN = "http://127.0.0.1:8080"
CONSOLE_ORIGIN = "https://cpvm.example.test:8443"
NETWORKS = NetworksConfig(
    control=NetworkConfig("cloud0", IPv4Network("169.254.0.0/16"), IPv4Address("169.254.0.1")),
    management=NetworkConfig("cloudbr1", IPv4Network("10.11.0.0/24"), IPv4Address("10.11.0.1")),
    public=NetworkConfig(
        "cloudbr0",
        IPv4Network("203.0.113.0/24"),
        IPv4Address("203.0.113.1"),
        pool=AddressRange(IPv4Address("203.0.113.100"), IPv4Address("203.0.113.199")),
    ),
    guest=NetworkConfig("cloudbr3", IPv4Network("10.13.0.0/24"), IPv4Address("10.13.0.1")),
)
STORE = Store("10.12.0.2", "/export/secondary")
ADMIN_PASSWORD, USER_PASSWORD = "correct horse", "battery staple"
API_KEY, SECRET_KEY = "an-api-key", "a-secret-key"

#: Weak on purpose: the tests are not about argon2.
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class FakePeer:
    """An agent's connection that answers from a table of functions and records the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.calls: list[tuple[str, Any]] = []

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = 30,
        request_id: str | None = None,
    ) -> Any:
        self.calls.append((method, params))
        if method not in self.answers:
            raise RpcError(METHOD_NOT_FOUND, f"no method {method}")
        answer = self.answers[method](params)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def asked(self, method: str) -> list[Any]:
        return [params for name, params in self.calls if name == method]


class FakeAgents:
    """The connected agents, by name."""

    def __init__(self) -> None:
        self.peers: dict[str, tuple[Role, FakePeer]] = {}

    def connect(self, name: str, role: Role) -> FakePeer:
        peer = FakePeer()
        self.peers[name] = (role, peer)
        return peer

    def disconnect(self, name: str) -> None:
        self.peers.pop(name, None)

    def peer(self, name: str) -> FakePeer | None:
        found = self.peers.get(name)
        return found[1] if found else None

    def up(self, role: Role) -> list[str]:
        return [name for name, (of, _) in self.peers.items() if of is role]


class FakeHypervisor:
    """A hypervisor that only records its machines."""

    def __init__(self) -> None:
        self.specs: dict[str, DomainSpec] = {}
        self.statuses: dict[str, DomainStatus] = {}
        self.stops: list[tuple[str, bool]] = []
        self.fails_with: Exception | None = None
        self._callbacks: list[ExitCallback] = []

    async def start(self, spec: DomainSpec) -> DomainStatus:
        if self.fails_with is not None:
            raise self.fails_with
        self.specs[spec.name] = spec
        status = DomainStatus(
            spec.name,
            spec.uuid,
            DomainState.RUNNING,
            vnc_address=spec.vnc.address if spec.vnc else None,
            vnc_port=5900 + len(self.specs) if spec.vnc else None,
        )
        self.statuses[spec.name] = status
        return status

    async def stop(self, name: str, *, forced: bool = False, timeout_s: float = 60.0) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        self.stops.append((name, forced))
        self.exit(name, ExitReason.STOPPED)

    def status(self, name: str) -> DomainStatus | None:
        return self.statuses.get(name)

    def on_exit(self, callback: ExitCallback) -> None:
        self._callbacks.append(callback)

    def exit(self, name: str, reason: ExitReason) -> None:
        """End a machine as if by itself."""
        before = self.statuses[name]
        self.statuses[name] = DomainStatus(name, before.uuid, DomainState.EXITED, exit_reason=reason)
        for callback in self._callbacks:
            callback(name, reason)


class FakePrimary:
    """Primary storage that makes empty files in the place of images."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.copied: list[Path] = []
        self.clones: dict[str, tuple[Path, str, int | None]] = {}
        self.fails_with: Exception | None = None

    async def ensure_template(self, template_uuid: str, source: Path, template_format: str) -> Path:
        if self.fails_with is not None:
            raise self.fails_with
        self.copied.append(source)
        return self._touch(f"{template_uuid}.{template_format}")

    async def delete_template(self, template_uuid: str) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        for path in self.directory.glob(f"{template_uuid}.*"):
            path.unlink()

    def volume_path(self, volume_uuid: str) -> Path:
        return self.directory / f"{volume_uuid}.qcow2"

    async def create_clone(
        self, volume_uuid: str, backing: Path, backing_format: str, size_bytes: int | None = None
    ) -> Path:
        self.clones[volume_uuid] = (backing, backing_format, size_bytes)
        return self._touch(f"{volume_uuid}.qcow2")

    async def create_empty(self, volume_uuid: str, size_bytes: int) -> Path:
        return self._touch(f"{volume_uuid}.qcow2")

    async def delete_volume(self, volume_uuid: str) -> None:
        self.volume_path(volume_uuid).unlink(missing_ok=True)

    def _touch(self, name: str) -> Path:
        path = self.directory / name
        path.touch()
        return path


class FakeDiagnostics:
    """Diagnostics that answer as a system VM does over ssh."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._directory = directory

    async def run(self, vm_uuid: str, kind: str, address: str, params: str) -> DiagnosticsResult:
        self.asked.append((vm_uuid, kind, address, params))
        return DiagnosticsResult("4 packets transmitted", "", "0")

    async def collect(self, vm_uuid: str, files: Sequence[str]) -> Path:
        self.asked.append((vm_uuid, *files))
        return self._directory / "abc/data.zip"


class FakeSystemVms:
    """A lifecycle of system VMs that only records its calls."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.asked: list[tuple[str, str, bool]] = []

    async def start(self, uuid: str) -> Instance:
        return await self._note("start", uuid, False)

    async def stop(self, uuid: str, *, forced: bool = False) -> Instance:
        return await self._note("stop", uuid, forced)

    async def reboot(self, uuid: str, *, forced: bool = False) -> Instance:
        return await self._note("reboot", uuid, forced)

    async def destroy(self, uuid: str) -> None:
        vm = await self._note("destroy", uuid, True)
        await self._database.run(instances.remove, vm.id, InstanceState.EXPUNGING)

    async def _note(self, what: str, uuid: str, forced: bool) -> Instance:
        self.asked.append((what, uuid, forced))
        return await self._database.read(instances.by_uuid, uuid)


class FakeZoneFacts:
    """The configuration of one zone."""

    def source_ca_pem(self, zone_name: str) -> str | None:
        return "-----BEGIN CERTIFICATE-----"

    def max_template_size_bytes(self, zone_name: str) -> int:
        return 1 << 30

    def store(self, zone_name: str, store_name: str) -> Store:
        return STORE

    def own_networks(self) -> list[str]:
        return ["203.0.113.1/32"]


if TYPE_CHECKING:

    class EndedJob(Job):
        """A job that has its result."""

        result: dict[str, Any]


@define
class SmallCloud:
    """The services, connected as in the daemon."""

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
    agents: FakeAgents = field(factory=FakeAgents)
    hypervisor: FakeHypervisor = field(factory=FakeHypervisor)

    authority: ControlAuthority = field(init=False)
    control: AgentDirectory = field(init=False)
    certificates: AgentCertificates = field(init=False)
    primary: FakePrimary = field(init=False)
    system_vms: FakeSystemVms = field(init=False)
    jobs: JobRunner = field(init=False)
    dispatch: DownloadDispatcher = field(init=False)
    templates: TemplateService = field(init=False)
    machines: VirtualMachines = field(init=False)
    consoles: ConsoleEndpoints = field(init=False)
    revocation: ConsoleRevocation = field(init=False)
    account_service: AccountService = field(init=False)
    diagnostics: FakeDiagnostics = field(init=False)
    agent_methods: MethodTable = field(init=False)
    ssvm_peer: FakePeer = field(init=False)
    table: CommandTable = field(init=False)

    def __attrs_post_init__(self) -> None:
        secondary = Path(self.store.host_path or "")
        directory = secondary.parent
        self.primary = FakePrimary(directory)
        self.system_vms = FakeSystemVms(self.database)
        self.ssvm_peer = self.agents.connect(self.ssvm.instance_name, Role.SSVM)
        self.ssvm_peer.answers["template.download"] = lambda _: RpcError(NOT_CONNECTED, "not now")
        self.agents.connect(self.cpvm.instance_name, Role.CPVM)
        self.jobs = JobRunner(self.database, self.clock, describe_job_error)
        usage = StoreUsage(self.database, self.agents, FakeZoneFacts())
        self.dispatch = DownloadDispatcher(self.clock, self.database, self.agents, FakeZoneFacts(), usage)
        self.revocation = ConsoleRevocation(self.database, self.agents)
        builder = UserVmBuilder(
            self.database, self.primary, directory, lambda zone: "10.11.0.1", host_id=self.host.id
        )
        self.machines = VirtualMachines(
            self.database,
            cast(Hypervisor, self.hypervisor),
            builder,
            self.seal,
            host_id=self.host.id,
            end_consoles=self.revocation.of_machine,
        )
        self.machines.subscribe()
        self.templates = TemplateService(self.database, self.dispatch, self.machines, usage)
        self.account_service = AccountService(
            self.database, self.seal, PasswordService(HASHER), self.machines, self.templates, self.revocation
        )
        self.consoles = ConsoleEndpoints(
            self.database, self.agents, lambda zone_id, address: PublicEndpoint.parse(CONSOLE_ORIGIN)
        )
        self.diagnostics = FakeDiagnostics(directory)
        self.agent_methods = MethodTable("agents", "1")
        self.dispatch.add_methods(self.agent_methods)
        ConsoleAuthorizer(self.database, self.seal).add_methods(self.agent_methods)
        self.authority = ControlAuthority(CertificateAuthority.create("control CA"))
        self.control = AgentDirectory(lambda name: True)
        self.certificates = AgentCertificates(self.database, self.control, self.authority, self.clock)
        self.certificates.subscribe()
        rotation = CaRotation(self.clock, self.control, self.authority, lambda name: True, lambda: None)
        rotation.subscribe()
        services = ApiServices(
            database=self.database,
            jobs=self.jobs,
            templates=self.templates,
            system_vms=cast(SystemVmControl, self.system_vms),
            virtual_machines=self.machines,
            consoles=self.consoles,
            diagnostics=self.diagnostics,
            diagnostics_url=f"{ORIGIN}/diagnostics",
            guest_bridge=lambda zone: "cloudbr3",
            networks_of=lambda zone: NETWORKS,
            primary=self.primary.directory,
            host_id=self.host.id,
            accounts=self.account_service,
            certificates=CertificateService(
                self.clock, self.control, self.authority, self.certificates, rotation
            ),
        )
        self.table = command_table(services)

    def client(self) -> ClientResource:
        """Return `/client` as the daemon serves it."""
        directory = Authenticator(self.database, self.seal, HASHER)
        return client_resource(
            self.table,
            self.database,
            directory,
            self.clock,
            PublicAddress.of(PublicEndpoint.parse(ORIGIN)),
            self.revocation,
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
        return self.database.run_now(_add_template, self, state, owner or self.admin, columns)

    def add_system_vm(self, kind: InstanceType) -> Instance:
        return self.database.run_now(_add_system_vm, kind, self.zone.id, self.host.id)

    def update_instance(self, vm: Instance, **changes: Any) -> Instance:
        return self.database.run_now(instances.update, vm.id, **changes)

    def instance(self, vm_id: int) -> Instance:
        return self.database.run_now(instances.by_id, vm_id)


def make(directory: Path, pristine: Path) -> SmallCloud:
    """Return a cloud in `directory`, on a copy of a filled database file."""
    shutil.copy(pristine, directory / "systemvm.sqlite")
    shutil.copy(pristine.with_name("seal.key"), directory / "seal.key")
    secondary = directory / "secondary"
    secondary.mkdir()
    database = Database.open(directory / "systemvm.sqlite")
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
        admin=database.run_now(_principal, "admin"),
        user=database.run_now(_principal, "ulla"),
    )


def fill(directory: Path) -> Path:
    """Write the database file of a small cloud, which `make` copies."""
    path = directory / "systemvm.sqlite"
    database = Database.open(path)
    database.run_now(_fill, Seal.open_key(directory))
    database.close()
    return path


def _fill(connection: sa.Connection, seal: Seal) -> None:
    root = accounts.create_domain(connection, "ROOT", "/")
    system = accounts.create_account(connection, "system", AccountType.ADMIN, root.id)
    accounts.create_user(connection, "system", system, None)
    admins = accounts.create_account(connection, "admin", AccountType.ADMIN, root.id)
    admin = accounts.create_user(connection, "admin", admins, HASHER.hash(ADMIN_PASSWORD))
    accounts.add_api_key(connection, admin.id, API_KEY, seal.close(SECRET_KEY))
    users = accounts.create_account(connection, "users", AccountType.USER, root.id)
    accounts.create_user(connection, "ulla", users, HASHER.hash(USER_PASSWORD))
    zone = zones.put_zone(connection, "zone1", arch="amd64", dns=["203.0.113.10"], internal_dns=["10.11.0.2"])
    host = zones.put_host(
        connection, "host1", zone_id=zone.id, arch="amd64", address="10.11.0.1", version="0.1.0"
    )
    zones.put_store(
        connection,
        "secondary",
        zone_id=zone.id,
        url="nfs://10.12.0.2/export/secondary",
        host_path="/nowhere",
        nfs_version="4.2",
    )
    _add_system_vm(connection, InstanceType.SECONDARY_STORAGE, zone.id, host.id)
    _add_system_vm(connection, InstanceType.CONSOLE_PROXY, zone.id, host.id)


def _add_system_vm(connection: sa.Connection, kind: InstanceType, zone_id: int, host_id: int) -> Instance:
    vm = instances.create(
        connection,
        kind,
        account_id=1,
        zone_id=zone_id,
        host_id=host_id,
        state=InstanceState.RUNNING,
        agent_state=AgentState.UP,
        image_version="0.1.0",
        arch="amd64",
    )
    networks = [
        ("control", "cloud0", f"169.254.0.{vm.id}", "255.255.0.0", None),
        ("management", "cloudbr1", f"10.11.0.{100 + vm.id}", "255.255.255.0", "10.11.0.1"),
        ("public", "cloudbr0", f"203.0.113.{100 + vm.id}", "255.255.255.0", "203.0.113.1"),
    ]
    for device, (traffic, bridge, address, netmask, gateway) in enumerate(networks):
        instances.add_nic(
            connection,
            vm_id=vm.id,
            device=device,
            traffic_type=traffic,
            bridge=bridge,
            mac=f"0e:00:00:00:{device:02x}:{vm.id:02x}",
            address=address,
            netmask=netmask,
            gateway=gateway,
        )
    return vm


def _principal(connection: sa.Connection, username: str) -> Principal:
    user = accounts.user_by_name(connection, username)
    principal = principal_of(connection, user) if user else None
    if principal is None:
        raise LookupError(username)
    return principal


def _add_template(
    connection: sa.Connection,
    cloud: SmallCloud,
    state: DownloadState,
    owner: Principal,
    columns: dict[str, Any],
) -> tuple[Template, StoreRef]:
    values: dict[str, Any] = {
        "name": "tiny",
        "format": ImageFormat.QCOW2,
        "url": "https://images.example.test/tiny.qcow2",
    }
    template, ref = templates.register(
        connection,
        account_id=owner.account.id,
        domain_id=owner.domain.id,
        zone_id=cloud.zone.id,
        store_id=cloud.store.id,
        arch="amd64",
        **(values | columns),
    )
    changes: dict[str, Any] = {"state": state}
    if state is DownloadState.DOWNLOADED:
        file_name = f"{template.uuid}.{template.format.extension}"
        path = f"template/tmpl/{owner.account.id}/{template.id}/{file_name}"
        changes |= {"percent": 100, "install_path": path, "virtual_size_bytes": 1 << 20}
    return template, templates.update_store_ref(connection, ref.id, **changes)
