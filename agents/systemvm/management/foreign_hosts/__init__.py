# SPDX-License-Identifier: Apache-2.0
"""Hosts that this daemon does not drive, for the consoles of their VMs: XenServer, XCP-ng and vCenter."""
