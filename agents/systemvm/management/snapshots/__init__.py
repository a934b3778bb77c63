# SPDX-License-Identifier: Apache-2.0
"""Snapshots of volumes: taken while VMs run, kept on secondary storage, restored to volumes."""
