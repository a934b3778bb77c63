# SPDX-License-Identifier: Apache-2.0
"""listHypervisorCapabilities: the table of hypervisors, with what is enforced."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.zone_model.hypervisor_profiles import PROFILES, HypervisorProfile


@frozen(kw_only=True)
class HypervisorCapabilitiesAnswer:
    id: str = required_key("the UUID")
    hypervisor: str = required_key("KVM, XenServer or VMware")
    hypervisorversion: str = required_key("the versions that are supported")
    securitygroupenabled: bool = required_key("always false")
    maxhostspercluster: int | None = optional_key("how many hosts a cluster takes; without it any number")
    runsmachines: bool = required_key("whether VMs are deployed there; this and what follows are additions")
    connectsto: str = required_key("what the management daemon connects to")
    console: str = required_key("how console proxies reach a VM's screen")
    serialconsole: bool = required_key("whether serial ports have consoles")
    verifiedby: list[str] = required_key("what a host's certificate is verified with")
    systemvmcontrol: str | None = optional_key("how system VMs are reached, where they run")
    networking: str | None = optional_key("what a traffic label names, where the cloud makes networks")
    storage: list[str] = required_key("types of primary storage")


def hypervisor_commands() -> tuple[Command, ...]:
    parameters = (
        optional("id", ParameterType.UUID, "list only the one with this id"),
        optional("hypervisor", ParameterType.STRING, "list only those of this hypervisor"),
    )
    return (
        Command(
            "listHypervisorCapabilities", paged(_list), "Lists what each hypervisor can do here.",
            HypervisorCapabilitiesAnswer, "hypervisorCapabilities", ResponseShape.LIST, parameters,
            ADMIN_ONLY, related=("listHypervisors", "addHost"),
        ),
    )  # fmt: skip


async def _list(call: ApiCall) -> list[HypervisorCapabilitiesAnswer]:
    named = [each for each in PROFILES if matches_keyword(call.arguments, each.name)]
    wanted = call.arguments.get("hypervisor", "").lower()
    return [
        _answer(each)
        for each in named
        if wanted in ("", each.name.lower()) and call.arguments.get("id", each.uuid) == each.uuid
    ]


def _answer(profile: HypervisorProfile) -> HypervisorCapabilitiesAnswer:
    return HypervisorCapabilitiesAnswer(
        id=profile.uuid,
        hypervisor=profile.name,
        hypervisorversion=profile.versions,
        securitygroupenabled=False,
        maxhostspercluster=profile.max_hosts,
        runsmachines=profile.is_driven,
        connectsto=profile.connects_to,
        console=profile.console,
        serialconsole=profile.serial_console,
        verifiedby=list(profile.verified_by),
        systemvmcontrol=profile.system_vm_control or None,
        networking=profile.networking or None,
        storage=list(profile.storage),
    )
