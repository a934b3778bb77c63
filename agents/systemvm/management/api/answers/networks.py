# SPDX-License-Identifier: Apache-2.0
"""`network`, `publicipaddress` and forwarding rule objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key
from systemvm.management.api.answers.tags import TagAnswer


@frozen(kw_only=True)
class ServiceProviderAnswer:
    name: str = required_key("ConfigDrive: VMs have a CD with their user data")


@frozen(kw_only=True)
class NetworkServiceAnswer:
    name: str = required_key("Dhcp, Dns or UserData: there is no router, and nothing is forwarded")
    provider: list[ServiceProviderAnswer] | None = optional_key("of UserData on L2 networks")


@frozen(kw_only=True)
class NetworkAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    displaytext: str = required_key("a description for people")
    tags: list[TagAnswer] = required_key("keys and values that its owner gave it; see createTags")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    traffictype: str = required_key("Guest")
    type: str = required_key("Shared, Isolated or L2")
    state: str = required_key("Setup; of an account's Allocated, Implementing or Implemented")
    acltype: str = required_key("Domain; of an account's Account")
    account: str | None = optional_key("the account that owns an isolated or L2 one")
    domainid: str | None = optional_key("UUID of that account's domain")
    domain: str | None = optional_key("name of that account's domain")
    service: list[NetworkServiceAnswer] = required_key("what its VMs get from it")
    vlan: str | None = optional_key("its VLAN; for root administrators")
    broadcasturi: str | None = optional_key("its VLAN as a URI; for root administrators")
    broadcastdomaintype: str = required_key("Vlan")
    cidr: str | None = optional_key("the network")
    gateway: str | None = optional_key("its gateway")
    netmask: str | None = optional_key("its netmask")
    networkdomain: str = required_key("the domain of its VMs' names")
    networkofferingid: str = required_key("UUID of the offering it was made by")
    networkofferingname: str = required_key("name of the offering it was made by")
    networkofferingdisplaytext: str = required_key("description of that offering")
    networkofferingavailability: str = required_key("Required, or Optional")
    dns1: str | None = optional_key("first name server of the zone, which its own asks; not of L2")
    dns2: str | None = optional_key("second name server of the zone")
    ispersistent: bool = required_key("whether it is there without any VM")
    restartrequired: bool = required_key("always false")
    physicalnetworkid: str | None = optional_key("UUID of the physical network that carries it")
    issystem: bool = required_key("always false")
    isdefault: bool = required_key("whether machines are put on it without being asked")
    canusefordeploy: bool = required_key("whether machines can be put on it")
    specifyipranges: bool = required_key("whether the cloud gives addresses on it; see listVlanIpRanges")


@frozen(kw_only=True)
class NetworkOfferingAnswer:
    """What guest networks of a zone are made by."""

    id: str = required_key("the UUID")
    name: str = required_key("the name")
    displaytext: str = required_key("a description for people")
    zoneid: str = required_key("UUID of the only zone that has it")
    zone: str = required_key("name of that zone")
    traffictype: str = required_key("Guest")
    guestiptype: str = required_key("Shared, Isolated or L2")
    state: str = required_key("Enabled")
    availability: str = required_key("Required, or Optional")
    isdefault: bool = required_key("always true")
    service: list[NetworkServiceAnswer] = required_key("what VMs of such a network get from it")
    specifyvlan: bool = required_key("whether createNetwork takes a VLAN")
    specifyipranges: bool = required_key("whether createNetwork needs a range of addresses")
    forvpc: bool = required_key("always false")
    ispersistent: bool = required_key("whether it is there without any VM")


@frozen(kw_only=True)
class PublicIpAddressAnswer:
    id: str = required_key("the UUID")
    ipaddress: str = required_key("the address")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    physicalnetworkid: str | None = optional_key("UUID of the physical network that carries it")
    vlanid: str | None = optional_key("UUID of its range")
    virtualmachineid: str = required_key("UUID of the system VM that has it")
    virtualmachinename: str = required_key("name of the system VM that has it")
    allocated: datetime = required_key("when it was allocated")
    state: str = required_key("Allocated")
    forvirtualnetwork: bool = required_key("true: it is public")
    issourcenat: bool = required_key("always false")
    isstaticnat: bool = required_key("always false")
    issystem: bool = required_key("whether a system VM has it")


@frozen(kw_only=True)
class ForwardingRuleAnswer:
    """Of port forwarding or static NAT: no network of this release has either."""

    id: str = required_key("the UUID")
    ipaddress: str = required_key("the public address")
    protocol: str = required_key("tcp or udp")
    virtualmachineid: str = required_key("UUID of the VM it leads to")
    publicport: str | None = optional_key("first public port")
    privateport: str | None = optional_key("first private port")
    state: str = required_key("Active")
