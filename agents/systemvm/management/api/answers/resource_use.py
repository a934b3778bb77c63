# SPDX-License-Identifier: Apache-2.0
"""The keys of `account` that say how much of each kind of resource it has, and can have."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from systemvm.management.api.answers.keys import optional_key


def own_keys_first(_class: type, fields: list[Any]) -> list[Any]:
    """Return the attributes of an answer in the order of its keys: inherited ones are the last."""
    return sorted(fields, key=lambda each: each.inherited)


@frozen(kw_only=True)
class ResourceUseAnswer:
    """Keys that `details=min` leaves out. A limit that is `Unlimited` is none."""

    vmlimit: str | None = optional_key("how many virtual machines it can have, or Unlimited")
    vmtotal: int | None = optional_key("how many virtual machines it has")
    vmavailable: str | None = optional_key("how many virtual machines it can still have, or Unlimited")
    volumelimit: str | None = optional_key("how many volumes it can have, or Unlimited")
    volumetotal: int | None = optional_key("how many volumes it has")
    volumeavailable: str | None = optional_key("how many volumes it can still have, or Unlimited")
    snapshotlimit: str | None = optional_key("how many snapshots it can have, or Unlimited")
    snapshottotal: int | None = optional_key("how many snapshots it has")
    snapshotavailable: str | None = optional_key("how many snapshots it can still have, or Unlimited")
    templatelimit: str | None = optional_key("how many templates and ISOs it can have, or Unlimited")
    templatetotal: int | None = optional_key("how many templates and ISOs it has")
    templateavailable: str | None = optional_key(
        "how many templates and ISOs it can still have, or Unlimited"
    )
    networklimit: str | None = optional_key("how many isolated and L2 networks it can have, or Unlimited")
    networktotal: int | None = optional_key("how many isolated and L2 networks it has")
    networkavailable: str | None = optional_key(
        "how many isolated and L2 networks it can still have, or Unlimited"
    )
    cpulimit: str | None = optional_key("how many virtual CPUs its VMs can have, or Unlimited")
    cputotal: int | None = optional_key("how many virtual CPUs its VMs have")
    cpuavailable: str | None = optional_key("how many virtual CPUs they can still have, or Unlimited")
    memorylimit: str | None = optional_key("how many MiB of memory its VMs can have, or Unlimited")
    memorytotal: int | None = optional_key("how many MiB of memory its VMs have")
    memoryavailable: str | None = optional_key("how many MiB of memory they can still have, or Unlimited")
    primarystoragelimit: str | None = optional_key("how many GiB its volumes can have, or Unlimited")
    primarystoragetotal: int | None = optional_key("how many whole GiB its volumes have")
    primarystorageavailable: str | None = optional_key("how many GiB they can still have, or Unlimited")
    secondarystoragelimit: str | None = optional_key(
        "how many GiB its templates and ISOs can have in a zone, or Unlimited"
    )
    secondarystoragetotal: float | None = optional_key(
        "how many GiB they have in the zone where they have most"
    )
    secondarystorageavailable: str | None = optional_key(
        "how many GiB they can still have there, or Unlimited"
    )
