# SPDX-License-Identifier: Apache-2.0
"""Why a lab's system VM or template is not ready, as the daemon reports it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.http.unix_client import unix_call

#: The daemon's diagnosis has its own deadlines and returns first results earlier.
WHY_S = 30.0
_LINES = 6


def why(socket: Path, name: str) -> str:
    """Return the output of `systemvm system-vm why NAME`, shortened."""
    try:
        answer: dict[str, Any] = unix_call(socket, "system_vm.why", {"name": name}, timeout_s=WHY_S)
    except RpcError as error:
        return f'{name}: {error.message}; run "systemvm system-vm why {name}"'
    lines = [f"{name} is {answer['state']}, its agent {answer['agentstate']}"]
    if answer.get("reason"):
        lines.append(f"reason: {answer['reason']}")
    if answer.get("hint"):
        lines.append(f"hint: {answer['hint']}")
    for look in answer.get("looked_at", []):
        output = str(look["said"]).splitlines()[-_LINES:]
        lines += [
            f"{look['what']}: {output[0]}" if output else look["what"],
            *(f"  {line}" for line in output[1:]),
        ]
    if answer.get("pending"):
        lines.append(f"still checking {answer['pending']}")
    return "\n".join(lines)


def of_template(found: dict[str, Any]) -> Iterable[str]:
    """Yield a template's status and hint from the API's answer."""
    yield f"{found['name']}: {found.get('status') or 'the download has not started'}"
    if found.get("hint"):
        yield f"hint: {found['hint']}"
