# SPDX-License-Identifier: Apache-2.0
"""Requests to the API for tests, and their errors."""

from __future__ import annotations

from typing import Any

import pytest

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError

#: An id that no object has.
NOWHERE = "00000000-0000-4000-8000-000000000000"


def registration(cloud: SmallCloud, **more: Any) -> dict[str, Any]:
    """Return parameters of registerTemplate."""
    return {
        "name": "tiny",
        "url": "https://images.example.test/tiny.qcow2",
        "format": "QCOW2",
        "hypervisor": "KVM",
        "zoneid": cloud.zone.uuid,
    } | more


def iso_registration(cloud: SmallCloud, **more: Any) -> dict[str, Any]:
    """Return parameters of registerIso."""
    return {"name": "cd", "url": "https://images.example.test/cd.iso", "zoneid": cloud.zone.uuid} | more


async def refusal(cloud: SmallCloud, command: str, as_user: Any = None, /, **parameters: Any) -> ApiError:
    """Return the error of a call that must fail."""
    with pytest.raises(ApiError) as refused:
        await cloud.call(command, as_user, **parameters)
    return refused.value
