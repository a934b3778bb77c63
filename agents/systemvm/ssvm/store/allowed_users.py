# SPDX-License-Identifier: Apache-2.0
"""Which users of the appliance may call a root helper."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from contextlib import suppress

AGENT_USER, FETCH_USER, SERVE_USER = "systemvm-agent", "systemvm-fetch", "systemvm-serve"


def allow(*users: str) -> Callable[[int], bool]:
    """Return a rule that accepts the uids of root and of these users."""

    def may_call(uid: int) -> bool:
        for user in users:
            with suppress(KeyError):  # a machine that is not an appliance does not have them
                if pwd.getpwnam(user).pw_uid == uid:
                    return True
        return uid == 0

    return may_call
