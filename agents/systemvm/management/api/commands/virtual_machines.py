# SPDX-License-Identifier: Apache-2.0
"""deploy-, start-, stop-, reboot-, destroy-, recover- and expungeVirtualMachine, listVirtualMachines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.machines import VirtualMachineAnswer
from systemvm.management.api.command import (
    ApiCall,
    Command,
    ResponseShape,
    ResultPage,
    StartedJob,
)
from systemvm.management.api.commands import machine_deployment, machine_list, machine_placement
from systemvm.management.api.commands.machine_answers import answer_for
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import object_error, parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import Parameter, ParameterType, only, optional, required
from systemvm.management.api.principal import Principal
from systemvm.management.config import ExpungeConfig
from systemvm.management.configurations.expunge import expunge_rules
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.pki.seal import Seal
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.state import instance_list, instances, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.offerings import SHARED, ServiceOffering
from systemvm.management.state.status import Provisioning
from systemvm.management.state.storage_pools import tags_of
from systemvm.management.state.zones import Host
from systemvm.management.virtual_machines.deployment import Deployment
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.management.volumes.pool_choice import PoolWish

_IDENTITY = required("id", ParameterType.UUID, "the virtual machine")


class VirtualMachineCommands:
    """Handlers of these commands."""

    def __init__(
        self,
        database: Database,
        machines: VirtualMachines,
        jobs: JobRunner,
        guest_bridge: Callable[[str], str | None],
        pools: StoragePools,
        seal: Seal,
        *,
        host_id: int,
        expunge: ExpungeConfig | None = None,
    ) -> None:
        self._database = database
        self._machines = machines
        self._jobs = jobs
        self._guest_bridge = guest_bridge  # by zone name
        self._pools = pools
        self._seal = seal
        self._host_id = host_id
        self._expunge = expunge or ExpungeConfig()
        jobs.register("deployVirtualMachine", self._run_deploy, resumes=True)
        jobs.register("startVirtualMachine", self._run_start, resumes=True)
        jobs.register("stopVirtualMachine", self._run_stop, resumes=True)
        jobs.register("rebootVirtualMachine", self._run_reboot, resumes=True)
        jobs.register("destroyVirtualMachine", self._run_destroy, resumes=True)
        jobs.register("expungeVirtualMachine", self._run_expunge, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (*self._deployment(), *self._power(), *self._removal(), *self._listing())

    def _deployment(self) -> tuple[Command, ...]:
        return (
            Command(
                "deployVirtualMachine",
                self._deploy,
                "Creates a VM from a template, or with an empty disk from an ISO, and starts it.",
                VirtualMachineAnswer,
                "virtualmachine",
                ResponseShape.ASYNC,
                machine_deployment.PARAMETERS,
                related=("listVirtualMachines", "listTemplates", "listServiceOfferings"),
            ),
        )

    def _power(self) -> tuple[Command, ...]:
        return (
            self._asynchronous(
                "startVirtualMachine",
                "Starts a VM.",
                _IDENTITY,
                only(
                    "considerlasthost", ParameterType.BOOLEAN, "start it on the host where it ran last", True
                ),
                only("bootintosetup", ParameterType.BOOLEAN, "boot into the firmware's setup", False),
                *machine_placement.PARAMETERS,
            ),
            self._asynchronous(
                "stopVirtualMachine",
                "Stops a VM by asking the guest to shut down.",
                _IDENTITY,
                optional("forced", ParameterType.BOOLEAN, "turn it off instead"),
            ),
            self._asynchronous(
                "rebootVirtualMachine",
                "Stops and starts a running VM.",
                _IDENTITY,
                optional("forced", ParameterType.BOOLEAN, "turn it off instead of asking the guest"),
            ),
        )

    def _removal(self) -> tuple[Command, ...]:
        return (
            self._asynchronous(
                "destroyVirtualMachine",
                "Destroys a VM, which can be recovered until it is expunged.",
                _IDENTITY,
                optional("expunge", ParameterType.BOOLEAN, "delete its disk at once and permanently"),
            ),
            Command(
                "recoverVirtualMachine",
                self._recover,
                "Recovers a Destroyed VM, which is Stopped afterwards.",
                VirtualMachineAnswer,
                "virtualmachine",
                parameters=(_IDENTITY,),
            ),
            self._asynchronous(
                "expungeVirtualMachine",
                "Deletes the disk of a Destroyed VM at once and permanently.",
                _IDENTITY,
                answer=SuccessAnswer,
            ),
        )

    def _listing(self) -> tuple[Command, ...]:
        return (
            Command(
                "listVirtualMachines",
                self._list,
                "Lists VMs.",
                VirtualMachineAnswer,
                "virtualmachine",
                ResponseShape.LIST,
                machine_list.PARAMETERS,
                sortable=tuple(instance_list.SORT_KEYS),
                kept=True,
            ),
        )

    def _asynchronous(
        self, name: str, description: str, *parameters: Parameter, answer: type = VirtualMachineAnswer
    ) -> Command:
        flags = [one.name for one in parameters if one.type is ParameterType.BOOLEAN]

        async def start(call: ApiCall) -> StartedJob:
            vm = await self._database.read(own_machine, call.arguments["id"], call.principal)
            if name == "startVirtualMachine":
                host = await self._database.read(zones.host_by_id, self._host_id)
                await self._database.read(_check_startable, call, vm, host)
            if name == "expungeVirtualMachine":
                await self._check_may_expunge(call.principal, "Expunging a vm can only be done by an Admin")
            if call.arguments.flag("expunge"):
                await self._check_may_expunge(call.principal, "Parameter expunge can be passed by Admin only")
            arguments = {"id": vm.id} | {flag: call.arguments.flag(flag) for flag in flags}
            return await start_job(self._jobs, call, name, arguments, about="VirtualMachine", uuid=vm.uuid)

        return Command(
            name,
            start,
            description,
            answer,
            "virtualmachine" if answer is VirtualMachineAnswer else "",
            ResponseShape.ASYNC,
            parameters,
            related=("listVirtualMachines",),
        )

    async def _check_may_expunge(self, principal: Principal, refusal: str) -> None:
        """CloudStack's rule and message (UserVmManagerImpl): 401 for users, unless configured otherwise."""
        rules = await self._database.read(expunge_rules, self._expunge)
        if not (principal.is_admin or rules.allow_user_expunge_recover_vm):
            raise unauthorized(
                f"{refusal}. Or when the allow.user.expunge.recover.vm key is set.", parameter="expunge"
            )

    async def _recover(self, call: ApiCall) -> VirtualMachineAnswer:
        vm = await self._database.read(own_machine, call.arguments["id"], call.principal)
        await self._check_may_expunge(call.principal, "Recovering a vm can only be done by an Admin")
        return await self._database.read(answer_for, await self._machines.recover(vm.id))

    async def _deploy(self, call: ApiCall) -> StartedJob:
        request = await self._database.read(machine_deployment.read_request, call, self._host_id)
        bridge = self._guest_bridge(request.zone.name)
        if bridge is None:
            raise parameter_error(
                "zoneid",
                f"zone {request.zone.name} has no guest network",
                "call addTrafficType for guest traffic, and createVlanIpRange",
            )
        start = call.arguments.flag("startvm", True)
        sealed = None if request.password is None else self._seal.close(request.password)
        vm = await self._machines.deploy(
            Deployment(
                template_id=request.template.id,
                zone_id=request.zone.id,
                host_id=self._host_id,
                account_id=request.owner.id,
                domain_id=request.owner.domain_id,
                user_id=call.principal.user.id,
                vcpus=request.offering.vcpus,
                memory_mib=request.offering.memory_mib,
                bridge=bridge,
                name=request.name,
                display_name=request.display_name,
                keyboard=request.keyboard,
                boot_type=request.boot_type,
                details=request.details,
                nics=request.nics,
                user_data=request.user_data,
                sealed_password=sealed,
                disk_bytes=request.disk_bytes,
                should_run=start,
                place=await self._place_of(request.offering),
                provisioning=Provisioning(request.offering.provisioning_type),
            )
        )
        return await start_job(
            self._jobs,
            call,
            "deployVirtualMachine",
            {"id": vm.id, "start": start},
            about="VirtualMachine",
            uuid=vm.uuid,
            creates=True,
            sealed_password=sealed,
        )

    async def _place_of(self, offering: ServiceOffering) -> PoolWish:
        is_shared = offering.storage_type == SHARED
        usages = await self._pools.usages() if is_shared else {}
        return PoolWish(self._host_id, usages, is_shared, tags=tags_of(offering.tags))

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(machine_list.select, call, file=self._expunge)

    async def _run_deploy(self, running: RunningJob) -> dict[str, Any]:
        vm_id = running.job.arguments["id"]
        if running.job.arguments["start"]:
            running.progress(10, "Creating its disk and starting it")
            return await self._result(await self._machines.start(vm_id))
        return await self._result(await self._database.read(instances.by_id, vm_id))

    async def _run_start(self, running: RunningJob) -> dict[str, Any]:
        return await self._result(await self._machines.start(running.job.arguments["id"]))

    async def _run_stop(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        return await self._result(await self._machines.stop(arguments["id"], forced=arguments["forced"]))

    async def _run_reboot(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        return await self._result(await self._machines.reboot(arguments["id"], forced=arguments["forced"]))

    async def _run_destroy(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        vm = await self._machines.destroy(arguments["id"], expunge=arguments.get("expunge", False))
        return await self._result(vm)

    async def _run_expunge(self, running: RunningJob) -> dict[str, Any]:
        await self._machines.expunge(running.job.arguments["id"])
        return dict(plain(SuccessAnswer(success=True)))

    async def _result(self, vm: Instance) -> dict[str, Any]:
        return {"virtualmachine": plain(await self._database.read(answer_for, vm))}


def _check_startable(connection: Connection, call: ApiCall, vm: Instance, host: Host) -> None:
    machine_placement.check_place(connection, call, host)
    zone = zones.zone_by_id(connection, vm.zone_id)
    machine_placement.check_enabled(connection, call, zone, host, "id")


def own_machine(connection: Connection, uuid: str, principal: Principal) -> Instance:
    """Return a user's VM that the caller has access to.

    Raises: ApiError 431 for a system VM, 401 for another account's, NotFoundError when there is none.
    """
    vm = instances.by_uuid(connection, uuid)
    if vm.type.is_system:
        raise object_error(
            uuid,
            f"{vm.name} is a system VM",
            "call startSystemVm, stopSystemVm, rebootSystemVm or destroySystemVm",
        )
    if not principal.may_use(vm.account_id):
        raise unauthorized(
            f"account {principal.account.name} must not operate this virtual machine", value=uuid
        )
    return vm
