# SPDX-License-Identifier: Apache-2.0
"""listSystemVms, startSystemVm, stopSystemVm, rebootSystemVm, destroySystemVm, patchSystemVm."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, Protocol

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.machines import SystemVmAnswer
from systemvm.management.api.command import (
    ApiCall,
    Command,
    ResponseShape,
    ResultPage,
    StartedJob,
)
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import object_error, parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import instances, system_vm_list
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.host_state import explanation_of, host_state
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.state.jobs import Job
from systemvm.management.state.offerings import of_vm
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import InstanceType
from systemvm.management.state.system_vm_list import SystemVmFilter
from systemvm.management.system_vms.patching import PatchResult
from systemvm.rpc.core.errors import RpcError

_TYPES = {
    InstanceType.SECONDARY_STORAGE: "secondarystoragevm",
    InstanceType.CONSOLE_PROXY: "consoleproxy",
}


class SystemVmControl(Protocol):
    """Operations on a system VM, by its UUID."""

    async def start(self, uuid: str) -> Instance: ...
    async def stop(self, uuid: str, *, forced: bool = False) -> Instance: ...
    async def reboot(self, uuid: str, *, forced: bool = False) -> Instance: ...
    async def destroy(self, uuid: str) -> None: ...
    async def patch(self, uuid: str, *, forced: bool = False) -> PatchResult: ...


class EmptiedProxies(Protocol):
    """Console proxies without sessions."""

    def emptied(self, uuid: str, report: Callable[[int], None]) -> AbstractAsyncContextManager[None]: ...
    async def undo(self, uuid: str) -> Instance: ...


class SystemVmCommands:
    """Handlers of the six commands."""

    def __init__(
        self, database: Database, control: SystemVmControl, draining: EmptiedProxies, jobs: JobRunner
    ) -> None:
        self._database = database
        self._control = control
        self._draining = draining
        self._jobs = jobs
        jobs.register("startSystemVm", self._run_start, resumes=True)
        for name, handler in (
            ("stopSystemVm", self._run_stop),
            ("rebootSystemVm", self._run_reboot),
            ("destroySystemVm", self._run_destroy),
            ("patchSystemVm", self._run_patch),
        ):
            jobs.register(name, handler, on_interrupted=self._interrupted)

    def commands(self) -> tuple[Command, ...]:
        identity = required("id", ParameterType.UUID, "the system VM")
        forced = optional("forced", ParameterType.BOOLEAN, "turn it off instead of asking the guest")
        drain = optional(
            "drain",
            ParameterType.BOOLEAN,
            "a console proxy: begin when its last session has ended, or after consoleproxy.drain.timeout",
        )
        return (
            Command(
                "listSystemVms",
                self._list,
                "Lists system VMs with the state of their agents.",
                SystemVmAnswer,
                "systemvm",
                ResponseShape.LIST,
                (
                    optional("id", ParameterType.UUID, "list only the one with this id"),
                    optional("name", ParameterType.STRING, "list only the one with this name"),
                    optional("state", ParameterType.STRING, "list only those in this state"),
                    optional(
                        "systemvmtype",
                        ParameterType.STRING,
                        "list only those of this type",
                        choices=tuple(_TYPES.values()),
                    ),
                    optional("zoneid", ParameterType.UUID, "list only those of this zone"),
                    optional("hostid", ParameterType.UUID, "list only those on this host"),
                    optional("arch", ParameterType.STRING, "list only those of this architecture"),
                ),
                roles=ADMIN_ONLY,
                sortable=tuple(system_vm_list.SORT_KEYS),
                kept=True,
            ),
            self._asynchronous("startSystemVm", "Starts a system VM.", identity),
            self._asynchronous(
                "stopSystemVm",
                "Stops a system VM. The daemon starts one again when the zone needs it.",
                identity,
                forced,
                drain,
            ),
            self._asynchronous(
                "rebootSystemVm", "Reboots a system VM, which keeps its addresses.", identity, forced, drain
            ),
            self._asynchronous(
                "destroySystemVm",
                "Destroys a system VM. The daemon creates another one with a new name.",
                identity,
                drain,
            ),
            self._asynchronous(
                "patchSystemVm",
                "Installs this daemon's agent in a running system VM, or restores the old one.",
                identity,
                optional("forced", ParameterType.BOOLEAN, "even if it already runs that agent"),
                drain,
                answer=SuccessAnswer,
            ),
        )

    def _asynchronous(
        self, name: str, description: str, *parameters: Any, answer: type[Any] = SystemVmAnswer
    ) -> Command:
        async def start(call: ApiCall) -> StartedJob:
            vm = await self._database.read(system_vm, call.arguments["id"])
            arguments: dict[str, Any] = {"id": vm.uuid}
            arguments |= {name: call.arguments.flag(name) for name in ("forced", "drain")}
            if arguments["drain"] and vm.type is not InstanceType.CONSOLE_PROXY:
                raise parameter_error(
                    "drain",
                    f"{vm.instance_name} is not a console proxy: it cannot be drained",
                    "leave drain out",
                )
            return await start_job(self._jobs, call, name, arguments, about="SystemVm", uuid=vm.uuid)

        return Command(
            name,
            start,
            description,
            answer,
            "systemvm",
            ResponseShape.ASYNC,
            parameters,
            ADMIN_ONLY,
            related=("listSystemVms",),
        )

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)

    async def _run_start(self, running: RunningJob) -> dict[str, Any]:
        return await self._result(await self._control.start(running.job.arguments["id"]))

    def _emptied(self, running: RunningJob) -> AbstractAsyncContextManager[None]:
        """Return a context that begins when the system VM's last session has ended, if that was asked."""
        arguments = running.job.arguments
        if not arguments.get("drain"):  # jobs of an earlier release do not have it
            return nullcontext()

        def report(left: int) -> None:
            running.progress(0, f"waits until {left} console sessions end")

        return self._draining.emptied(arguments["id"], report)

    async def _interrupted(self, job: Job) -> None:
        """Undo the drain of a job that a killed daemon has left: nothing else would end it."""
        if job.arguments.get("drain"):
            with suppress(NotFoundError, RpcError):
                await self._draining.undo(job.arguments["id"])

    async def _run_stop(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        async with self._emptied(running):
            vm = await self._control.stop(arguments["id"], forced=arguments["forced"])
        return await self._result(vm)

    async def _run_reboot(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        async with self._emptied(running):
            vm = await self._control.reboot(arguments["id"], forced=arguments["forced"])
        return await self._result(vm)

    async def _run_destroy(self, running: RunningJob) -> dict[str, Any]:
        vm = await self._database.read(instances.by_uuid, running.job.arguments["id"])
        async with self._emptied(running):
            await self._control.destroy(vm.uuid)
        return await self._result(await self._database.read(instances.by_id, vm.id))

    async def _run_patch(self, running: RunningJob) -> dict[str, Any]:
        """Return CloudStack's SuccessResponse, not the system VM."""
        arguments = running.job.arguments
        async with self._emptied(running):
            patched = await self._control.patch(arguments["id"], forced=arguments["forced"])
        verb = "runs" if patched.changed else "already runs"
        answer = SuccessAnswer(success=True, displaytext=f"The system VM {verb} agent {patched.version}.")
        return dict(plain(answer))

    async def _result(self, vm: Instance) -> dict[str, Any]:
        return {"systemvm": plain(await self._database.read(_answer_for, vm))}


def system_vm(connection: Connection, uuid: str) -> Instance:
    """Return the system VM with this id.

    Raises: ApiError 431 when it is a user's VM, NotFoundError when there is none.
    """
    vm = instances.by_uuid(connection, uuid)
    if not vm.type.is_system:
        raise object_error(
            uuid, f"{vm.name} is not a system VM", "call the commands of virtual machines for users' VMs"
        )
    return vm


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    """Return the rows of a list's page.

    Raises: ApiError 431 for a page that does not exist.
    """
    arguments, names = call.arguments, read_names(connection)
    kind = arguments.text("systemvmtype")
    which = SystemVmFilter(
        uuid=arguments.text("id"),
        name=arguments.text("name"),
        state=arguments.text("state"),
        type=next((each for each, name in _TYPES.items() if name == kind), None),
        zone_id=names.number_of_zone(arguments.text("zoneid")),
        host_id=names.number_of_host(arguments.text("hostid")),
        arch=arguments.text("arch"),
        keyword=arguments.text("keyword"),
    )
    found, count = system_vm_list.page(connection, which, page_window(arguments), sort_order(arguments))
    nics = instances.nics_by_vm(connection, [vm.id for vm in found])
    return ResultPage([_answer(vm, nics[vm.id], names) for vm in found], count)


def _answer_for(connection: Connection, vm: Instance) -> SystemVmAnswer:
    return _answer(vm, instances.nics_of(connection, vm.id), read_names(connection))


def _answer(vm: Instance, nics: list[Nic], names: OwnerNames) -> SystemVmAnswer:
    zone, host = names.zone(vm.zone_id), names.host(vm.host_id)
    by_type = {nic.traffic_type: nic for nic in nics}
    control, private = by_type.get("control"), by_type.get("management")
    public, storage = by_type.get("public"), by_type.get("storage")
    outside = public or private
    dns = [*(zone.dns if zone else []), None, None]
    offering = of_vm(vm, names.offerings)
    reason, hint = explanation_of(vm)
    return SystemVmAnswer(
        id=vm.uuid,
        name=vm.instance_name,
        systemvmtype=_TYPES[vm.type],
        state=vm.state.value,
        agentstate=host_state(vm).value,
        reason=reason,
        hint=hint,
        hypervisor=vm.hypervisor,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        hostid=host.uuid if host else None,
        hostname=host.name if host else None,
        hostcontrolstate="Enabled" if host else None,
        dns1=dns[0],
        dns2=dns[1],
        gateway=(outside.gateway or outside.gateway6) if outside else None,
        linklocalip=control.address if control else None,
        linklocalmacaddress=control.mac if control else None,
        linklocalnetmask=control.netmask if control else None,
        privateip=private.address if private else None,
        privatemacaddress=private.mac if private else None,
        privatenetmask=private.netmask if private else None,
        privateip6address=private.ipv6 if private else None,
        publicip=public.reached_at if public else None,
        publicip6address=public.ipv6 if public else None,
        publicmacaddress=public.mac if public else None,
        publicnetmask=public.netmask if public else None,
        storageip=storage.reached_at if storage else None,
        storageip6address=storage.ipv6 if storage else None,
        drainuntil=vm.drain_until,
        activeviewersessions=vm.console_sessions if vm.type is InstanceType.CONSOLE_PROXY else None,
        version=vm.image_version,
        serviceofferingid=offering.uuid,
        serviceofferingname=offering.name,
        templateid=vm.image_sha256,
        templatename=f"systemvm {vm.image_version}" if vm.image_version else None,
        isdynamicallyscalable=False,
        arch=vm.arch,
        created=vm.created,
        disconnected=vm.disconnected,
    )
