# SPDX-License-Identifier: Apache-2.0
"""`systemvm` and `virtualmachine` objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key
from systemvm.management.api.answers.tags import TagAnswer


@frozen(kw_only=True)
class SystemVmAnswer:
    """An SSVM or a CPVM."""

    id: str = required_key("the UUID")
    name: str = required_key("s-N-VM or v-N-VM")
    systemvmtype: str = required_key("secondarystoragevm or consoleproxy")
    state: str = required_key("state of the VM")
    agentstate: str | None = optional_key("state of the agent in it, as listHosts has it")
    reason: str | None = optional_key("why it is not Running and Up; an addition to CloudStack's keys")
    hint: str | None = optional_key("what to do about it; an addition to CloudStack's keys")
    hypervisor: str = required_key("KVM")
    zoneid: str | None = optional_key("the zone's UUID")
    zonename: str | None = optional_key("the zone's name")
    hostid: str | None = optional_key("UUID of the host it runs on")
    hostname: str | None = optional_key("name of the host it runs on")
    hostcontrolstate: str | None = optional_key("whether its host may be used")
    dns1: str | None = optional_key("first name server of the zone")
    dns2: str | None = optional_key("second name server of the zone")
    gateway: str | None = optional_key("gateway of the public network")
    linklocalip: str | None = optional_key("control address")
    linklocalmacaddress: str | None = optional_key("MAC on the control network")
    linklocalnetmask: str | None = optional_key("netmask of the control network")
    privateip: str | None = optional_key("management address")
    privatemacaddress: str | None = optional_key("MAC on the management network")
    privatenetmask: str | None = optional_key("netmask of the management network")
    privateip6address: str | None = optional_key("management address of IPv6; an addition")
    publicip: str | None = optional_key("public address; of IPv6 when it has no other")
    publicip6address: str | None = optional_key("public address of IPv6; an addition")
    publicmacaddress: str | None = optional_key("MAC on the public network")
    publicnetmask: str | None = optional_key("netmask of the public network")
    storageip: str | None = optional_key("storage address; an addition to CloudStack's keys")
    storageip6address: str | None = optional_key("storage address of IPv6; an addition")
    activeviewersessions: int | None = optional_key("open consoles, of a CPVM")
    drainuntil: datetime | None = optional_key(
        "a CPVM that takes no new session: when its last end; an addition"
    )
    version: str | None = optional_key("version of its image")
    serviceofferingid: str = required_key("UUID of its size")
    serviceofferingname: str = required_key("name of its size")
    templateid: str | None = optional_key("the image it was made from")
    templatename: str | None = optional_key("name of that image")
    isdynamicallyscalable: bool = required_key("always false")
    arch: str | None = optional_key("processor architecture")
    created: datetime = required_key("when it was made")
    disconnected: datetime | None = optional_key("when its agent was last lost")


@frozen(kw_only=True)
class NicAnswer:
    """A network card of a VM."""

    id: str = required_key("the UUID")
    deviceid: str = required_key("the N of ethN")
    networkid: str | None = optional_key("UUID of its network; see listNetworks")
    networkname: str | None = optional_key("name of its network")
    traffictype: str = required_key("Guest")
    macaddress: str = required_key("the MAC")
    ipaddress: str | None = optional_key("the address, when the cloud gave it one")
    netmask: str | None = optional_key("the netmask of that address")
    gateway: str | None = optional_key("the router of that address's network")
    isdefault: bool = required_key("whether the default route goes there")
    type: str = required_key("Shared")
    secondaryip: list[str] = required_key("always empty")
    virtualmachineid: str | None = optional_key("UUID of the VM, in listNics")


@frozen(kw_only=True)
class VirtualMachineAnswer:
    """A user's VM."""

    id: str = required_key("the UUID")
    tags: list[TagAnswer] = required_key("keys and values that its owner gave it; see createTags")
    name: str = required_key("the name the user gave")
    displayname: str = required_key("name for people")
    instancename: str | None = optional_key("i-<account>-<number>-VM, as the hypervisor knows it")
    state: str = required_key("state of the VM")
    reason: str | None = optional_key(
        "why it is not in the state asked for, or does not go on; an addition to CloudStack's keys"
    )
    hint: str | None = optional_key("what to do about it; an addition to CloudStack's keys")
    account: str = required_key("the owning account")
    domainid: str = required_key("the owner's domain UUID")
    domain: str = required_key("the owner's domain")
    userid: str | None = optional_key("UUID of the user who deployed it")
    username: str | None = optional_key("name of the user who deployed it")
    created: datetime = required_key("when it was deployed")
    zoneid: str | None = optional_key("the zone's UUID")
    zonename: str | None = optional_key("the zone's name")
    hostid: str | None = optional_key("UUID of the host it runs on")
    hostname: str | None = optional_key("name of the host it runs on")
    hypervisor: str = required_key("KVM, or XenServer or VMware of a host that is registered for consoles")
    powerstate: str | None = optional_key("PowerOn or PowerOff, of a VM on such a host")
    templateid: str | None = optional_key("the template its disk is a clone of")
    templatename: str | None = optional_key("that template's name")
    templatedisplaytext: str | None = optional_key("that template's description")
    isoid: str | None = optional_key("the ISO in its drive")
    isoname: str | None = optional_key("that ISO's name")
    isodisplaytext: str | None = optional_key("that ISO's description")
    serviceofferingid: str = required_key("UUID of its size")
    serviceofferingname: str = required_key("name of its size")
    cpunumber: int = required_key("virtual CPUs")
    cpuspeed: int = required_key("MHz of each")
    memory: int = required_key("memory in MiB")
    rootdeviceid: int = required_key("device number of its disk")
    rootdevicetype: str = required_key("ROOT")
    haenable: bool = required_key("whether it is restarted elsewhere when its host dies")
    passwordenabled: bool = required_key("whether it takes a password from the cloud")
    password: str | None = optional_key(
        "its password: once, in the result of the job that made it, for the user who started the job"
    )
    displayvm: bool = required_key("whether it is shown to its user")
    isdynamicallyscalable: bool = required_key("always false")
    arch: str | None = optional_key("processor architecture")
    boottype: str | None = optional_key("its firmware, of KVM: Bios or Uefi")
    bootmode: str | None = optional_key("legacy: it has no Secure Boot")
    ostypeid: str | None = optional_key("UUID of its operating system, which is its template's or ISO's")
    guestosid: str | None = optional_key("the same")
    osdisplayname: str | None = optional_key("that operating system's name")
    deleteprotection: bool = required_key("always false")
    affinitygroup: list[str] = required_key("always empty")
    securitygroup: list[str] = required_key("always empty")
    details: dict[str, str] | None = optional_key("what its owner noted of it, if anything")
    nic: list[NicAnswer] = required_key("its network cards")


@frozen(kw_only=True)
class UserDataAnswer:
    virtualmachineid: str = required_key("UUID of the VM")
    userdata: str = required_key("what the metadata service answers it, in base64; empty without any")
