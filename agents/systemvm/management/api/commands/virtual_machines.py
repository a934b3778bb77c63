# SPDX-License-Identifier: Apache-2.0
"""deploy-, start-, stop-, reboot-, destroy-, recover- and expungeVirtualMachine, listVirtualMachines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.machines import NicAnswer, VirtualMachineAnswer
from systemvm.management.api.command import ApiCall, Command, Shape, Started, matches_keyword, paged
from systemvm.management.api.commands.templates import the_zone
from systemvm.management.api.commands.zones import CPU_MHZ, OFFERINGS, Offering, offering_of
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.owners import Names, read_names
from systemvm.management.api.parameters import Parameter, ParameterType, optional, required
from systemvm.management.api.principal import Principal
from systemvm.management.config import ExpungeConfig
from systemvm.management.jobs.runner import Jobs, Running
from systemvm.management.state import instances, templates
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.state.status import InstanceState
from systemvm.management.state.templates import Template
from systemvm.management.virtual_machines.deployment import GIB, MAX_DISK_BYTES, Deployment
from systemvm.management.virtual_machines.service import VirtualMachines

MAX_DISPLAY_NAME_CHARACTERS = 255

_IDENTITY = required("id", ParameterType.UUID, "the virtual machine")


class VirtualMachineCommands:
    """Handlers of these commands."""

    def __init__(
        self,
        database: Database,
        machines: VirtualMachines,
        jobs: Jobs,
        guest_bridge: Callable[[str], str | None],
        *,
        host_id: int,
        expunge: ExpungeConfig | None = None,
    ) -> None:
        self._database = database
        self._machines = machines
        self._jobs = jobs
        self._guest_bridge = guest_bridge  # by zone name
        self._host_id = host_id
        self._expunge = expunge or ExpungeConfig()
        jobs.register("deployVirtualMachine", self._run_deploy, resumes=True)
        jobs.register("startVirtualMachine", self._run_start, resumes=True)
        jobs.register("stopVirtualMachine", self._run_stop, resumes=True)
        jobs.register("rebootVirtualMachine", self._run_reboot, resumes=True)
        jobs.register("destroyVirtualMachine", self._run_destroy, resumes=True)
        jobs.register("expungeVirtualMachine", self._run_expunge, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "deployVirtualMachine",
                self._deploy,
                "Makes a VM from a Ready template, or an empty one that boots a Ready ISO, and starts it.",
                VirtualMachineAnswer,
                "virtualmachine",
                Shape.ASYNC,
                (
                    required("zoneid", ParameterType.UUID, "the zone"),
                    required("templateid", ParameterType.UUID, "a Ready template or ISO"),
                    required("serviceofferingid", ParameterType.UUID, "the size; see listServiceOfferings"),
                    optional("name", ParameterType.STRING, "host name; made from a number without it"),
                    optional("displayname", ParameterType.STRING, "what people see; the name without it"),
                    optional("hypervisor", ParameterType.STRING, "KVM", choices=("KVM",)),
                    optional("rootdisksize", ParameterType.INTEGER, "size of its disk in GiB"),
                    optional("startvm", ParameterType.BOOLEAN, "false: leave it Stopped"),
                ),
                related=("listVirtualMachines", "listTemplates", "listServiceOfferings"),
            ),
            self._asynchronous("startVirtualMachine", "Starts a VM.", _IDENTITY),
            self._asynchronous(
                "stopVirtualMachine",
                "Stops a VM by its power button.",
                _IDENTITY,
                optional("forced", ParameterType.BOOLEAN, "pull the plug instead"),
            ),
            self._asynchronous(
                "rebootVirtualMachine",
                "Stops and starts a running VM.",
                _IDENTITY,
                optional("forced", ParameterType.BOOLEAN, "pull the plug instead of pressing the button"),
            ),
            self._asynchronous(
                "destroyVirtualMachine",
                "Destroys a VM; until it is expunged it can be recovered.",
                _IDENTITY,
                optional("expunge", ParameterType.BOOLEAN, "delete its disk at once and for good"),
            ),
            Command(
                "recoverVirtualMachine",
                self._recover,
                "Recovers a Destroyed VM; it is Stopped then.",
                VirtualMachineAnswer,
                "virtualmachine",
                parameters=(_IDENTITY,),
            ),
            self._asynchronous(
                "expungeVirtualMachine",
                "Deletes the disk of a Destroyed VM at once and for good.",
                _IDENTITY,
                answer=SuccessAnswer,
            ),
            Command(
                "listVirtualMachines",
                paged(self._list),
                "Lists VMs.",
                VirtualMachineAnswer,
                "virtualmachine",
                Shape.LIST,
                (
                    optional("id", ParameterType.UUID, "only this one"),
                    optional("ids", ParameterType.LIST, "only these"),
                    optional("name", ParameterType.STRING, "only the one of this name"),
                    optional(
                        "state", ParameterType.STRING, "only those in this state; Present: not destroyed"
                    ),
                    optional("zoneid", ParameterType.UUID, "only those of this zone"),
                    optional("templateid", ParameterType.UUID, "only those made from this template"),
                    optional("isoid", ParameterType.UUID, "only those with this ISO"),
                    optional("hypervisor", ParameterType.STRING, "only those of this hypervisor"),
                    optional("account", ParameterType.STRING, "only those of this account"),
                    optional("listall", ParameterType.BOOLEAN, "those of all accounts; administrators only"),
                ),
            ),
        )

    def _asynchronous(
        self, name: str, description: str, *parameters: Parameter, answer: type = VirtualMachineAnswer
    ) -> Command:
        flags = [one.name for one in parameters if one.type is ParameterType.BOOLEAN]

        async def start(call: ApiCall) -> Started:
            vm = await self._database.read(own_machine, call.arguments["id"], call.principal)
            if name == "expungeVirtualMachine":
                self._check_may_expunge(call.principal, "Expunging a vm can only be done by an Admin")
            if call.arguments.flag("expunge"):
                self._check_may_expunge(call.principal, "Parameter expunge can be passed by Admin only")
            arguments = {"id": vm.id} | {flag: call.arguments.flag(flag) for flag in flags}
            return await start_job(self._jobs, call, name, arguments, about="VirtualMachine", uuid=vm.uuid)

        return Command(
            name,
            start,
            description,
            answer,
            "virtualmachine" if answer is VirtualMachineAnswer else "",
            Shape.ASYNC,
            parameters,
            related=("listVirtualMachines",),
        )

    def _check_may_expunge(self, principal: Principal, refusal: str) -> None:
        """CloudStack's rule and words (UserVmManagerImpl): 401 for users, unless configured otherwise."""
        if not (principal.is_admin or self._expunge.allow_user_expunge_recover_vm):
            raise unauthorized(f"{refusal}. Or when the allow.user.expunge.recover.vm key is set.")

    async def _recover(self, call: ApiCall) -> VirtualMachineAnswer:
        vm = await self._database.read(own_machine, call.arguments["id"], call.principal)
        self._check_may_expunge(call.principal, "Recovering a vm can only be done by an Admin")
        return await self._database.read(_answer_for, await self._machines.recover(vm.id))

    async def _deploy(self, call: ApiCall) -> Started:
        arguments, principal = call.arguments, call.principal
        zone = await self._database.read(the_zone, arguments["zoneid"])
        template = await self._database.read(_usable_template, arguments["templateid"], principal)
        offering = _offering(arguments["serviceofferingid"])
        bridge = self._guest_bridge(zone.name)
        if bridge is None:
            raise parameter_error(
                f"zone {zone.name} has no guest network", "describe networks.guest in the zone's file"
            )
        start = arguments.flag("startvm", True)
        vm = await self._machines.deploy(
            Deployment(
                template_id=template.id,
                zone_id=zone.id,
                host_id=self._host_id,
                account_id=principal.account.id,
                domain_id=principal.domain.id,
                user_id=principal.user.id,
                vcpus=offering.vcpus,
                memory_mib=offering.memory_mib,
                bridge=bridge,
                name=arguments.text("name"),
                display_name=_display_name(arguments.text("displayname")),
                disk_bytes=_disk_bytes(arguments.get("rootdisksize")),
                wanted=start,
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
        )

    async def _list(self, call: ApiCall) -> list[VirtualMachineAnswer]:
        arguments, principal = call.arguments, call.principal
        sees_destroyed = principal.is_admin or self._expunge.allow_user_view_destroyed_vm
        everyones = principal.is_admin and (arguments.flag("listall") or "account" in arguments)
        return [
            vm
            for vm in await self._database.read(_answers, None if everyones else principal.account.id)
            if arguments.get("id", vm.id) == vm.id
            and vm.id in arguments.get("ids", [vm.id])
            and arguments.get("name", vm.name).lower() == vm.name.lower()
            and _has_state(InstanceState(vm.state), arguments.text("state"))
            and (sees_destroyed or not InstanceState(vm.state).is_gone)
            and arguments.get("zoneid", vm.zoneid) == vm.zoneid
            and arguments.get("templateid", vm.templateid) == vm.templateid
            and arguments.get("isoid", vm.isoid) == vm.isoid
            and arguments.get("hypervisor", vm.hypervisor).lower() == vm.hypervisor.lower()
            and arguments.get("account", vm.account) == vm.account
            and matches_keyword(arguments, vm.name, vm.displayname, vm.instancename)
        ]

    async def _run_deploy(self, running: Running) -> dict[str, Any]:
        vm_id = running.job.arguments["id"]
        if running.job.arguments["start"]:
            running.progress(10, "Making its disk and starting it")
            return await self._result(await self._machines.start(vm_id))
        return await self._result(await self._database.read(instances.by_id, vm_id))

    async def _run_start(self, running: Running) -> dict[str, Any]:
        return await self._result(await self._machines.start(running.job.arguments["id"]))

    async def _run_stop(self, running: Running) -> dict[str, Any]:
        arguments = running.job.arguments
        return await self._result(await self._machines.stop(arguments["id"], forced=arguments["forced"]))

    async def _run_reboot(self, running: Running) -> dict[str, Any]:
        arguments = running.job.arguments
        return await self._result(await self._machines.reboot(arguments["id"], forced=arguments["forced"]))

    async def _run_destroy(self, running: Running) -> dict[str, Any]:
        arguments = running.job.arguments
        vm = await self._machines.destroy(arguments["id"], expunge=arguments.get("expunge", False))
        return await self._result(vm)

    async def _run_expunge(self, running: Running) -> dict[str, Any]:
        await self._machines.expunge(running.job.arguments["id"])
        return dict(plain(SuccessAnswer(success=True)))

    async def _result(self, vm: Instance) -> dict[str, Any]:
        return {"virtualmachine": plain(await self._database.read(_answer_for, vm))}


def _has_state(state: InstanceState, wanted: str | None) -> bool:
    """CloudStack's filter: a state's name, or Present for all that are neither Destroyed nor Expunging."""
    if wanted is None:
        return True
    return not state.is_gone if wanted.lower() == "present" else state.value.lower() == wanted.lower()


def own_machine(connection: sa.Connection, uuid: str, principal: Principal) -> Instance:
    """A user's VM that the caller may change."""
    vm = instances.by_uuid(connection, uuid)
    if vm.type.is_system:
        raise parameter_error(f"{vm.name} is a system VM", "use startSystemVm, stopSystemVm, …")
    if not principal.may_use(vm.account_id):
        raise unauthorized(f"{principal.account.name} may not operate this virtual machine")
    return vm


def _usable_template(connection: sa.Connection, uuid: str, principal: Principal) -> Template:
    template = templates.by_uuid(connection, uuid)
    if not (template.public or principal.may_use(template.account_id)):
        raise unauthorized(f"{principal.account.name} may not use this template")
    return template


def _offering(uuid: str) -> Offering:
    for offering in OFFERINGS:
        if offering.uuid == uuid:
            return offering
    raise parameter_error(f"there is no service offering with the id {uuid}", "see listServiceOfferings")


def _display_name(text: str | None) -> str | None:
    if text is not None and len(text) > MAX_DISPLAY_NAME_CHARACTERS:
        raise parameter_error(
            f"Invalid value for parameter displayname: at most {MAX_DISPLAY_NAME_CHARACTERS} characters"
        )
    return text or None


def _disk_bytes(gib: int | None) -> int | None:
    if gib is None:
        return None
    if not 1 <= gib <= MAX_DISK_BYTES // GIB:
        raise parameter_error(f"Invalid value for parameter rootdisksize: 1 to {MAX_DISK_BYTES // GIB} (GiB)")
    return gib * GIB


def _answers(connection: sa.Connection, account_id: int | None) -> list[VirtualMachineAnswer]:
    found = [vm for vm in instances.list_user(connection) if account_id in (None, vm.account_id)]
    nics = instances.nics_by_vm(connection, [vm.id for vm in found])
    names = read_names(connection)
    sources = {template.id: template for template in templates.rows.all(connection)}
    return [_answer(vm, nics[vm.id], names, sources) for vm in found]


def _answer_for(connection: sa.Connection, vm: Instance) -> VirtualMachineAnswer:
    sources = {template.id: template for template in templates.rows.all(connection)}
    return _answer(vm, instances.nics_of(connection, vm.id), read_names(connection), sources)


def _answer(
    vm: Instance, nics: list[Nic], names: Names, sources: dict[int, Template]
) -> VirtualMachineAnswer:
    account, domain = names.accounts[vm.account_id], names.domains[vm.domain_id]
    zone, host = names.zone(vm.zone_id), names.host(vm.host_id)
    template, iso = sources.get(vm.template_id or 0), sources.get(vm.iso_id or 0)
    origin = template or iso  # CloudStack names the ISO as the template too
    offering = offering_of(vm)
    return VirtualMachineAnswer(
        id=vm.uuid,
        name=vm.name,
        displayname=vm.shown_name,
        instancename=vm.instance_name,
        state=vm.state.value,
        reason=None if vm.state is InstanceState.RUNNING else vm.reason,
        hint=None if vm.state is InstanceState.RUNNING else vm.hint,
        account=account.name,
        domainid=domain.uuid,
        domain=domain.name,
        created=vm.created,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        hostid=host.uuid if host and vm.state.has_process else None,
        hostname=host.name if host and vm.state.has_process else None,
        hypervisor=vm.hypervisor,
        templateid=origin.uuid if origin else None,
        templatename=template.name if template else None,
        templatedisplaytext=template.display_text if template else None,
        isoid=iso.uuid if iso else None,
        isoname=iso.name if iso else None,
        isodisplaytext=iso.display_text if iso else None,
        serviceofferingid=offering.uuid,
        serviceofferingname=offering.name,
        cpunumber=vm.vcpus,
        cpuspeed=CPU_MHZ,
        memory=vm.memory_mib,
        rootdeviceid=0,
        rootdevicetype="ROOT",
        haenable=False,
        passwordenabled=False,
        displayvm=True,
        isdynamicallyscalable=False,
        arch=vm.arch,
        nic=[_nic(nic) for nic in nics],
    )


def _nic(nic: Nic) -> NicAnswer:
    return NicAnswer(
        id=nic.uuid,
        deviceid=str(nic.device),
        traffictype=nic.traffic_type.capitalize(),
        macaddress=nic.mac,
        ipaddress=nic.address,
        isdefault=nic.device == 0,
        type="Shared",
    )
