# SPDX-License-Identifier: Apache-2.0
"""`capacity` objects."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key, required_key


@frozen(kw_only=True)
class CapacityAnswer:
    """How much of something a zone, or a pod of it, has and uses."""

    type: int = required_key("4 public and 5 private addresses, 6 secondary and 9 local storage")
    name: str = required_key("CloudStack's name of the type, for example SECONDARY_STORAGE")
    zoneid: str = required_key("the zone's UUID")
    zonename: str = required_key("the zone's name")
    podid: str | None = optional_key("the pod's UUID; of private addresses and local storage")
    podname: str | None = optional_key("the pod's name")
    clusterid: str | None = optional_key("the cluster's UUID; of local storage")
    clustername: str | None = optional_key("the cluster's name")
    capacityallocated: int | None = optional_key("bytes that volumes can grow to; of local storage")
    capacityused: int = required_key("bytes or addresses in use")
    capacitytotal: int = required_key("bytes or addresses in all")
    percentused: str = required_key("how much is used, in percent with two digits")
