# SPDX-License-Identifier: Apache-2.0
"""Volumes: root disks of users' VMs and data disks, which exist with a VM or without one."""
