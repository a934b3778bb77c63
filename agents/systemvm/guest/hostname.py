# SPDX-License-Identifier: Apache-2.0
"""The appliance's own name, and whom it asks for others' names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.guest.network import NetworkPlan

_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def hosts(name: str, plan: NetworkPlan) -> str:
    """/etc/hosts: CloudStack resolves a system VM's own name to its public address."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    shown = next((nic for nic in (plan.public, plan.management, plan.control) if nic and nic.addresses), None)
    if shown is not None:
        lines += [f"{address.ip} {name}" for address in shown.addresses]
    return "\n".join(lines) + "\n"


def resolv_conf(plan: NetworkPlan, arguments: Mapping[str, str]) -> str:
    """/etc/resolv.conf: internal servers first, since only they know the zone's own names."""
    lines = [f"nameserver {address}" for address in plan.name_servers]
    search = [arguments.get("dnssearchorder", ""), arguments.get("domain", "")]
    domains = [word for text in search for word in text.split(",") if word]
    for domain in domains:
        if not _DOMAIN.fullmatch(domain):
            raise boot_argument_error(f"{domain!r} in domain= or dnssearchorder= is not a domain name")
    if domains:
        lines.append("search " + " ".join(dict.fromkeys(domains)))
    lines.append("options timeout:2 attempts:2")
    return "\n".join(lines) + "\n"
