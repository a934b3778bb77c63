# SPDX-License-Identifier: Apache-2.0
"""The hypervisors that this daemon does not drive, by CloudStack's names."""

from __future__ import annotations

import enum


class ForeignHypervisor(enum.Enum):
    """Hypervisors whose consoles are reached through their own API."""

    XENSERVER = "XenServer"
    VMWARE = "VMware"
