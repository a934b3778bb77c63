# SPDX-License-Identifier: Apache-2.0
"""The appliance's /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import re
from collections.abc import Mapping

from systemvm.guest.boot_argument_error import boot_argument_error
from systemvm.guest.network_plan import NetworkPlan

_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def hosts(name: str, plan: NetworkPlan) -> str:
    """Return /etc/hosts, in which the VM's name has its public address, as in CloudStack."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    named = next((nic for nic in (plan.public, plan.management, plan.control) if nic and nic.addresses), None)
    if named is not None:
        lines += [f"{address.ip} {name}" for address in named.addresses]
    return "\n".join(lines) + "\n"


def resolv_conf(plan: NetworkPlan, arguments: Mapping[str, str]) -> str:
    """Return /etc/resolv.conf, with internal servers first, because only they know the zone's names.

    Raises: BootError when a search domain is not a domain name.
    """
    lines = [f"nameserver {address}" for address in plan.name_servers]
    search = [arguments.get("dnssearchorder", ""), arguments.get("domain", "")]
    domains = [domain for text in search for domain in text.split(",") if domain]
    for domain in domains:
        if not _DOMAIN.fullmatch(domain):
            raise boot_argument_error(
                f"domain= or dnssearchorder= contains {domain!r}, which is not a domain name"
            )
    if domains:
        lines.append("search " + " ".join(dict.fromkeys(domains)))
    lines.append("options timeout:2 attempts:2")
    return "\n".join(lines) + "\n"
