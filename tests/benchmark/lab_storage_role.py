# SPDX-License-Identifier: Apache-2.0
"""The SSVM's role with the sockets of a lab instead of those of an appliance; `$SSVM_PATHS` names them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from systemvm.guest.context import AgentContext
from systemvm.ssvm.agent import role
from systemvm.ssvm.paths import Paths

VARIABLE = "SSVM_PATHS"


def install(context: AgentContext) -> None:
    named = json.loads(os.environ[VARIABLE])
    role.install(context, Paths(**{name: Path(path) for name, path in named.items()}))
