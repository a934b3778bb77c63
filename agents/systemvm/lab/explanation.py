# SPDX-License-Identifier: Apache-2.0
"""Why a lab's system VM or template is not there yet, in the daemon's own words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.http.unix_client import unix_call

#: The daemon looks into the machine, by deadlines of its own; a first word is there long before.
WHY_S = 30.0
_LINES = 6


def why(socket: Path, name: str) -> str:
    """What `systemvm system-vm why NAME` says, cut to what a wait has room for."""
    try:
        answer: dict[str, Any] = unix_call(socket, "system_vm.why", {"name": name}, timeout_s=WHY_S)
    except RpcError as error:
        return f"{name}: {error.message}; `systemvm system-vm why {name}` asks again"
    lines = [f"{name} is {answer['state']}, its agent {answer['agentstate']}"]
    if answer.get("reason"):
        lines.append(f"reason: {answer['reason']}")
    if answer.get("hint"):
        lines.append(f"hint: {answer['hint']}")
    for look in answer.get("looked_at", []):
        said = str(look["said"]).splitlines()[-_LINES:]
        lines += [f"{look['what']}: {said[0]}" if said else look["what"], *(f"  {line}" for line in said[1:])]
    if answer.get("pending"):
        lines.append(f"still looking at {answer['pending']}")
    return "\n".join(lines)


def of_template(found: dict[str, Any]) -> Iterable[str]:
    """A template's status and hint, as the API lists them."""
    yield f"{found['name']}: {found.get('status') or 'no SSVM has begun its download'}"
    if found.get("hint"):
        yield f"hint: {found['hint']}"
