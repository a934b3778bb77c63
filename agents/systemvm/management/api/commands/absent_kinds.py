# SPDX-License-Identifier: Apache-2.0
"""Lists of kinds of objects that are not in this release, which clients call all the same.

Each is empty, which is true. A client that looks for one of them by its name finds none, as it does in a
CloudStack where nobody has made one. The commands that make them are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from systemvm.management.api.answers.absent_kinds import (
    AffinityGroupTypeAnswer,
    FirewallRuleAnswer,
    NamedAnswer,
    SshKeyPairAnswer,
)
from systemvm.management.api.command import ApiCall, Command, ResponseShape, paged
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.state.database import Database

UUID, STRING = ParameterType.UUID, ParameterType.STRING
_ID = optional("id", UUID, "list only the one with this id")
_NAME = optional("name", STRING, "list only the one with this name")
_VM = optional("virtualmachineid", UUID, "list only those of this VM")
_ZONE = optional("zoneid", UUID, "list only those of this zone")
_ADDRESS = optional("ipaddressid", UUID, "list only those of this public address")
_NETWORK = optional("networkid", UUID, "list only those of this network")
_VPC = optional("vpcid", UUID, "list only those of this VPC")
_GROUP_NAME = optional("securitygroupname", STRING, "list only the one with this name")

#: Command, kind, object name, class of the objects, parameters.
_KINDS = (
    ("listSSHKeyPairs", "SSH key pairs", "sshkeypair", SshKeyPairAnswer, (_ID, _NAME)),
    ("listSecurityGroups", "security groups", "securitygroup", NamedAnswer, (_ID, _VM, _GROUP_NAME)),
    ("listAffinityGroups", "affinity groups", "affinitygroup", NamedAnswer, (_ID, _NAME, _VM)),
    ("listAffinityGroupTypes", "types of affinity groups", "affinityGroupType", AffinityGroupTypeAnswer, ()),
    ("listInstanceGroups", "groups of VMs", "instancegroup", NamedAnswer, (_ID, _NAME)),
    ("listProjects", "projects", "project", NamedAnswer, (_ID, _NAME)),
    ("listFirewallRules", "firewall rules", "firewallrule", FirewallRuleAnswer, (_ID, _ADDRESS, _NETWORK)),
    ("listEgressFirewallRules", "egress rules", "firewallrule", FirewallRuleAnswer, (_ID, _NETWORK)),
    ("listRouters", "virtual routers", "router", NamedAnswer, (_ID, _NAME, _ZONE, _NETWORK, _VPC)),
    ("listVPCs", "VPCs", "vpc", NamedAnswer, (_ID, _NAME, _ZONE)),
    ("listVPCOfferings", "offerings of VPCs", "vpcoffering", NamedAnswer, (_ID, _NAME, _ZONE)),
)


class AbsentKindCommands:
    """The lists; parameters are checked as those of any list are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return tuple(
            Command(
                name, paged(self._none), f"Lists {kind}: there are none in this release.", answer,
                object_name, ResponseShape.LIST, (*parameters, *OWNERS),
            )
            for name, kind, object_name, answer, parameters in _KINDS
        )  # fmt: skip

    async def _none(self, call: ApiCall) -> Sequence[Any]:
        await self._database.read(owners_of, call)
        return ()
