# SPDX-License-Identifier: Apache-2.0
"""Objects of kinds that no account has in this release, with the keys by which clients look for them."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import required_key


@frozen(kw_only=True)
class NamedAnswer:
    """A project, security group, affinity group, instance group, router, VPC or offering of VPCs."""

    id: str = required_key("the UUID")
    name: str = required_key("the name")


@frozen(kw_only=True)
class SshKeyPairAnswer:
    id: str = required_key("the UUID")
    name: str = required_key("the name")
    fingerprint: str = required_key("fingerprint of the public key")


@frozen(kw_only=True)
class AffinityGroupTypeAnswer:
    type: str = required_key("the type")


@frozen(kw_only=True)
class FirewallRuleAnswer:
    id: str = required_key("the UUID")
    protocol: str = required_key("tcp, udp or icmp")
    cidrlist: str = required_key("the networks that it admits")
    state: str = required_key("Active")
