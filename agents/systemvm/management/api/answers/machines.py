# SPDX-License-Identifier: Apache-2.0
"""`systemvm` and `virtualmachine` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class SystemVmAnswer:
    """An SSVM or a CPVM."""

    id: str = always("the UUID")
    name: str = always("s-N-VM or v-N-VM")
    systemvmtype: str = always("secondarystoragevm or consoleproxy")
    state: str = always("state of the VM")
    agentstate: str | None = says("state of the agent in it, as listHosts has it")
    reason: str | None = says("why it is not Running and Up; an addition to CloudStack's keys")
    hint: str | None = says("what to do about it; an addition to CloudStack's keys")
    hypervisor: str = always("KVM")
    zoneid: str | None = says("the zone's UUID")
    zonename: str | None = says("the zone's name")
    hostid: str | None = says("UUID of the host it runs on")
    hostname: str | None = says("name of the host it runs on")
    hostcontrolstate: str | None = says("whether its host may be used")
    dns1: str | None = says("first name server of the zone")
    dns2: str | None = says("second name server of the zone")
    gateway: str | None = says("gateway of the public network")
    linklocalip: str | None = says("control address")
    linklocalmacaddress: str | None = says("MAC on the control network")
    linklocalnetmask: str | None = says("netmask of the control network")
    privateip: str | None = says("management address")
    privatemacaddress: str | None = says("MAC on the management network")
    privatenetmask: str | None = says("netmask of the management network")
    publicip: str | None = says("public address")
    publicmacaddress: str | None = says("MAC on the public network")
    publicnetmask: str | None = says("netmask of the public network")
    storageip: str | None = says("storage address; an addition to CloudStack's keys")
    activeviewersessions: int | None = says("open consoles, of a CPVM")
    version: str | None = says("version of its image")
    serviceofferingid: str = always("UUID of its size")
    serviceofferingname: str = always("name of its size")
    templateid: str | None = says("the image it was made from")
    templatename: str | None = says("name of that image")
    isdynamicallyscalable: bool = always("always false")
    arch: str | None = says("processor architecture")
    created: datetime = always("when it was made")
    disconnected: datetime | None = says("when its agent was last lost")


@frozen(kw_only=True)
class NicAnswer:
    """A network card of a VM."""

    id: str = always("the UUID")
    deviceid: str = always("the N of ethN")
    traffictype: str = always("Guest")
    macaddress: str = always("the MAC")
    ipaddress: str | None = says("the address, when the cloud gave it one")
    isdefault: bool = always("whether the default route goes there")
    type: str = always("Shared")


@frozen(kw_only=True)
class VirtualMachineAnswer:
    """A user's VM."""

    id: str = always("the UUID")
    name: str = always("the name the user gave")
    displayname: str = always("the name shown to people")
    instancename: str | None = says("i-<account>-<number>-VM, as the hypervisor knows it")
    state: str = always("state of the VM")
    reason: str | None = says("why it is not in the state asked for; an addition to CloudStack's keys")
    hint: str | None = says("what to do about it; an addition to CloudStack's keys")
    account: str = always("the owning account")
    domainid: str = always("the owner's domain UUID")
    domain: str = always("the owner's domain")
    userid: str | None = says("UUID of the user who deployed it")
    username: str | None = says("name of the user who deployed it")
    created: datetime = always("when it was deployed")
    zoneid: str | None = says("the zone's UUID")
    zonename: str | None = says("the zone's name")
    hostid: str | None = says("UUID of the host it runs on")
    hostname: str | None = says("name of the host it runs on")
    hypervisor: str = always("KVM")
    templateid: str | None = says("the template its disk is a clone of")
    templatename: str | None = says("that template's name")
    templatedisplaytext: str | None = says("that template's description")
    isoid: str | None = says("the ISO in its drive")
    isoname: str | None = says("that ISO's name")
    isodisplaytext: str | None = says("that ISO's description")
    serviceofferingid: str = always("UUID of its size")
    serviceofferingname: str = always("name of its size")
    cpunumber: int = always("virtual CPUs")
    cpuspeed: int = always("MHz of each")
    memory: int = always("memory in MiB")
    rootdeviceid: int = always("device number of its disk")
    rootdevicetype: str = always("ROOT")
    haenable: bool = always("whether it is restarted elsewhere when its host dies")
    passwordenabled: bool = always("whether it takes a password from the cloud")
    displayvm: bool = always("whether it is shown to its user")
    isdynamicallyscalable: bool = always("always false")
    arch: str | None = says("processor architecture")
    nic: list[NicAnswer] = always("its network cards")
