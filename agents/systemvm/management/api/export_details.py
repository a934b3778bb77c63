# SPDX-License-Identifier: Apache-2.0
"""The `details` of an NFS export in the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from systemvm.management.api.errors import parameter_error

#: Keys of `details`, and the attribute of StoreDefinition that each sets; two are CloudStack's.
EXPORT_DETAILS = {"nfs.version": "nfs_version", "nfsmountopts": "mount_options", "host.path": "host_path"}


def read_export_details(details: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes that details set.

    Raises: ApiError 431 for an unknown one.
    """
    found: dict[str, Any] = {}
    for key, value in details.items():
        if key not in EXPORT_DETAILS:
            raise parameter_error(
                f"details[0].{key[:64]}",
                f"{key[:64]} is not a detail of an image store",
                f"use {', '.join(EXPORT_DETAILS)}",
            )
        found[EXPORT_DETAILS[key]] = value
    return found
