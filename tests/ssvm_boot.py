# SPDX-License-Identifier: Apache-2.0
"""Boot arguments of an SSVM for its NICs, with addresses of the lab's networks."""

from __future__ import annotations

NICS = {
    "eth2ip": "203.0.113.101",
    "eth2mask": "255.255.255.0",
    "gateway": "203.0.113.1",
    "eth0ip": "169.254.3.4",
    "eth0mask": "255.255.0.0",
    "eth1ip": "10.11.0.101",
    "eth1mask": "255.255.255.0",
    "mgmtcidr": "10.11.0.0/24,10.96.0.0/16",
    "localgw": "10.11.0.1",
    "eth3ip": "10.12.0.100",
    "eth3mask": "255.255.255.0",
}
