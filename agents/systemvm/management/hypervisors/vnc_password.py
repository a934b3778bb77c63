# SPDX-License-Identifier: Apache-2.0
"""Passwords of VNC servers: random, and new at every start of a machine."""

from __future__ import annotations

import secrets
import string

#: RFB's VNC authentication uses the first eight characters of a password.
VNC_PASSWORD_LENGTH = 8
_CHARACTERS = string.ascii_letters + string.digits


def new_vnc_password() -> str:
    return "".join(secrets.choice(_CHARACTERS) for _ in range(VNC_PASSWORD_LENGTH))
