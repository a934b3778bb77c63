# SPDX-License-Identifier: Apache-2.0
"""Every key of CloudStack's boot arguments (reference 1.3 to 1.5): supported, or why it is ignored."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Read by preinit, or later by the agent from `cmd_line.json`.
_SUPPORTED = """
template type name host port zone pod guid authorized_key clock
gateway ip6gateway defaultroute mgmtcidr localgw private.network.device public.network.device nic_macs
mtu publicMtu privateMtu bootproto disable_rp_filter
storageip storagenetmask storagegateway storagecidr secondaryStorageServerAddress nfsVersion
internaldns1 internaldns2 dns1 dns2 ip6dns1 ip6dns2 domain dnssearchorder useextdns
fetch_denied fetch_allowed fetch_proxy fetch_stores
ntpserverlist vncport proxy_vm session_reconnection_window useHttpsToUpload sslcopy
certificate cacertificate privatekey
"""
SUPPORTED_KEYS = frozenset(_SUPPORTED.split())
_NUMBERED = re.compile(r"eth\d+(ip|mask|ip6|ip6prelen)")

#: Ignored, each with its reason.
IGNORED_KEYS = {
    "workers": "threads of the Java agent",
    "resource": "a Java class",
    "instance": "a Java agent's name for its configuration",
    "role": "the daemon decides which commands an SSVM receives",
    "premium": "an edition of the Java agent",
    "vmpassword": "there is no login by password, only ssh with authorized_key",
    "sshonguest": "ssh listens on the control NIC only",
    "keystore_password": "there is no Java keystore",
    "validity": "the signer decides how long a certificate is valid",
    "logrotatefrequency": "the size of the journal is limited",
    "userdata": "there is no cloud-init",
    "extra_pubnics": "only routers have extra public NICs; each ethNip is supported here",
    "vpccidr": "only for routers",
    "dhcprange": "only for routers",
}
_ROUTER = re.compile(r"(redundant_|guest|dhcp|vpc|router).*")


def is_supported(key: str) -> bool:
    return key in SUPPORTED_KEYS or _NUMBERED.fullmatch(key) is not None


def reason_ignored(key: str) -> str | None:
    """Return why a key is ignored; None for a key that is supported or unknown."""
    if is_supported(key):
        return None
    return IGNORED_KEYS.get(key) or ("only for routers" if _ROUTER.fullmatch(key) else None)


def unknown_keys(keys: Iterable[str]) -> list[str]:
    """Return the keys that neither this appliance nor CloudStack has: most often typing errors."""
    return sorted(key for key in keys if not is_supported(key) and reason_ignored(key) is None)
