# SPDX-License-Identifier: Apache-2.0
"""Commands that change a zone's model, for tests: with or without a job, and refused."""

from __future__ import annotations

from typing import Any

from small_cloud import SmallCloud
from systemvm.service.errors import SystemVmError


async def job(cloud: SmallCloud, command: str, **parameters: Any) -> dict[str, Any]:
    ended = await cloud.job(command, **parameters)
    if "errortext" in ended.result:
        raise SystemVmError(ended.result["errortext"], ended.result.get("hint", ""))
    return ended.result


async def refused(cloud: SmallCloud, command: str, /, **parameters: Any) -> SystemVmError:
    """Return how a command is refused, whichever way it answers."""
    try:
        if cloud.table.find(command).is_async:
            await job(cloud, command, **parameters)
        else:
            await cloud.call(command, **parameters)
    except SystemVmError as error:
        return error
    raise AssertionError(f"{command} was not refused")
