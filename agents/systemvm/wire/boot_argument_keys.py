# SPDX-License-Identifier: Apache-2.0
"""Every key of CloudStack's boot arguments (reference 1.3 to 1.5): who takes it, or why nobody does."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Taken: by preinit, or later by the agent out of `cmd_line.json`.
_TAKEN = """
template type name host port zone pod guid authorized_key clock
gateway ip6gateway defaultroute mgmtcidr localgw private.network.device public.network.device nic_macs
mtu publicMtu privateMtu bootproto disable_rp_filter
storageip storagenetmask storagegateway storagecidr secondaryStorageServerAddress nfsVersion
internaldns1 internaldns2 dns1 dns2 ip6dns1 ip6dns2 domain dnssearchorder useextdns
fetch_denied ntpserverlist vncport proxy_vm session_reconnection_window useHttpsToUpload sslcopy
certificate cacertificate privatekey
"""
UNDERSTOOD = frozenset(_TAKEN.split())
_NUMBERED = re.compile(r"eth\d+(ip|mask|ip6|ip6prelen)")

#: Not taken, and why that is right.
IGNORED = {
    "workers": "threads of the Java agent",
    "resource": "a Java class",
    "instance": "a Java agent's name for its configuration",
    "role": "what commands an SSVM gets is the daemon's choice at each",
    "premium": "a build of the Java agent",
    "vmpassword": "nobody logs in by password: the only way in is ssh with authorized_key",
    "sshonguest": "ssh is on the control NIC and never elsewhere",
    "keystore_password": "there is no Java keystore",
    "validity": "the life of a certificate is its signer's choice",
    "logrotatefrequency": "the journal is capped by size",
    "userdata": "no cloud-init: an appliance is what its image says",
    "extra_pubnics": "more public NICs are a router's; each ethNip is taken here, however many there are",
    "vpccidr": "a router's",
    "dhcprange": "a router's",
}
_ROUTER = re.compile(r"(redundant_|guest|dhcp|vpc|router).*")


def understood(key: str) -> bool:
    return key in UNDERSTOOD or _NUMBERED.fullmatch(key) is not None


def why_ignored(key: str) -> str | None:
    """None for a key that is taken or unknown."""
    if understood(key):
        return None
    return IGNORED.get(key) or ("a router's" if _ROUTER.fullmatch(key) else None)


def unknown(keys: Iterable[str]) -> list[str]:
    """Those that neither this appliance nor CloudStack knows: most often a slip of the pen."""
    return sorted(key for key in keys if not understood(key) and why_ignored(key) is None)
