# SPDX-License-Identifier: Apache-2.0
"""What the offerings of VMs and of volumes have in common: where disks are, and how they take space."""

from __future__ import annotations

from systemvm.management.api.ownership import SCOPE
from systemvm.management.api.parameters import Arguments, ParameterType, optional
from systemvm.management.state.offerings import LOCAL, SHARED
from systemvm.management.state.status import Provisioning

_TYPES = tuple(each.value for each in Provisioning)

STORAGE_TYPE = optional(
    "storagetype",
    ParameterType.STRING,
    "where disks are: local, the default, or shared, in a storage pool",
    choices=(LOCAL, SHARED),
)
PROVISIONING = optional(
    "provisioningtype",
    ParameterType.STRING,
    "thin, the default: linked clones, and files that grow; sparse: copies of their own; fat: copies with all"
    " their space from the beginning",
    choices=(*_TYPES, *(each.upper() for each in _TYPES)),
)
#: For whom offerings are listed: every account and domain can use all of them.
USABLE_BY = (
    optional("account", ParameterType.STRING, "an account that the caller has access to: it can use all"),
    optional("domainid", ParameterType.UUID, "a domain that the caller has access to: it can use all"),
    *SCOPE,
)
STORAGE_TAGS = optional(
    "tags", ParameterType.STRING, "comma-separated: disks are only in storage pools with all these tags"
)


def provisioning_of(arguments: Arguments) -> Provisioning:
    return Provisioning(arguments.get(PROVISIONING.name, Provisioning.THIN.value).lower())
