# SPDX-License-Identifier: Apache-2.0
"""CloudStack's boot argument keys: each is supported, or ignored for a stated reason."""

from __future__ import annotations

import pytest

from systemvm.wire import boot_argument_keys

#: Keys that setup/common.sh and cs_cmdline.py of CloudStack 4.22 read, and that its managers send.
CLOUDSTACKS = """
eth0ip eth0mask eth1ip eth1mask eth2ip eth2mask eth0ip6 eth0ip6prelen eth2ip6 eth2ip6prelen gateway ip6gateway
internaldns1 internaldns2 dns1 dns2 ip6dns1 ip6dns2 domain dnssearchorder useextdns mgmtcidr localgw bootproto
nic_macs mtu publicMtu privateMtu storageip storagenetmask storagecidr extra_pubnics defaultroute vpccidr
dhcprange
type template name host sshonguest vmpassword ntpserverlist authorized_key keystore_password validity
certificate cacertificate privatekey logrotatefrequency useHttpsToUpload vncport disable_rp_filter
redundant_router redundant_master guestgw guestbrd guestcidrsize
port zone pod guid workers resource instance sslcopy role private.network.device public.network.device
storagegateway nfsVersion userdata secondaryStorageServerAddress eth3ip eth3mask premium proxy_vm
session_reconnection_window
"""


@pytest.mark.parametrize("key", CLOUDSTACKS.split())
def test_every_key_of_cloudstack_is_supported_or_ignored_with_a_reason(key: str) -> None:
    assert boot_argument_keys.is_supported(key) != bool(boot_argument_keys.reason_ignored(key))
    assert boot_argument_keys.unknown_keys([key]) == []


def test_misspelled_keys_are_unknown() -> None:
    assert boot_argument_keys.unknown_keys(["gatway", "name", "eth2ip7", "vmpassword", "eth10ip"]) == [
        "eth2ip7",
        "gatway",
    ]
    assert boot_argument_keys.reason_ignored("gatway") is None
