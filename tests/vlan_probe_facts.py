# SPDX-License-Identifier: Apache-2.0
"""What vlan_probe.py prints where VLANs are kept apart."""

EXPECTED = {
    "from 100": {"wire": [100], "others": []},
    "from 200": {"wire": [200], "others": []},
    "from None": {"wire": [0], "others": []},
    "tagged 100": ["100"],
    "tagged 300": [],
    "forged by 100": [0, []],
    "forged by untagged": [0, []],
}
