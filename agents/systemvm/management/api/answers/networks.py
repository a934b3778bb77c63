# SPDX-License-Identifier: Apache-2.0
"""`network`, `publicipaddress` and forwarding rule objects."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.api.answers.keys import always, says


@frozen(kw_only=True)
class NetworkAnswer:
    id: str = always("the UUID")
    name: str = always("the name")
    displaytext: str = always("a description for people")
    zoneid: str = always("the zone's UUID")
    zonename: str = always("the zone's name")
    traffictype: str = always("Guest")
    type: str = always("Shared")
    state: str = always("Setup")
    acltype: str = always("Domain")
    broadcastdomaintype: str = always("Vlan")
    cidr: str = always("the network")
    gateway: str | None = says("its gateway")
    netmask: str = always("its netmask")
    networkofferingid: str = always("UUID of the offering it was made by")
    networkofferingname: str = always("name of the offering it was made by")
    networkofferingdisplaytext: str = always("description of that offering")
    physicalnetworkid: str = always("UUID of the physical network that carries it")
    issystem: bool = always("always false")
    isdefault: bool = always("whether machines are put on it without being asked")
    canusefordeploy: bool = always("whether machines can be put on it")
    specifyipranges: bool = always("always false: the cloud gives no addresses on it")


@frozen(kw_only=True)
class PublicIpAddressAnswer:
    id: str = always("the UUID")
    ipaddress: str = always("the address")
    zoneid: str = always("the zone's UUID")
    zonename: str = always("the zone's name")
    physicalnetworkid: str = always("UUID of the physical network that carries it")
    vlanid: str = always("UUID of its range")
    virtualmachineid: str = always("UUID of the system VM that has it")
    virtualmachinename: str = always("name of the system VM that has it")
    allocated: datetime = always("when it was allocated")
    state: str = always("Allocated")
    forvirtualnetwork: bool = always("true: it is public")
    issourcenat: bool = always("always false")
    isstaticnat: bool = always("always false")
    issystem: bool = always("whether a system VM has it")


@frozen(kw_only=True)
class ForwardingRuleAnswer:
    """Of port forwarding or static NAT: no network of this release has either."""

    id: str = always("the UUID")
    ipaddress: str = always("the public address")
    protocol: str = always("tcp or udp")
    virtualmachineid: str = always("UUID of the VM it leads to")
    publicport: str | None = says("first public port")
    privateport: str | None = says("first private port")
    state: str = always("Active")
