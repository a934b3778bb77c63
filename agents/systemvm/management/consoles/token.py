# SPDX-License-Identifier: Apache-2.0
"""The one-time secret of a console URL: random, URL-safe, and stored only as its hash."""

from __future__ import annotations

import hashlib
import secrets

TOKEN_BYTES = 32  # 256 bits, 43 characters
#: The maximum numbers of unspent tokens of one account for one VM and for all VMs. One more replaces the
#: oldest, so that the newest link always works and the table is bounded.
MAX_UNSPENT_OF_VM = 10
MAX_UNSPENT_OF_ACCOUNT = 50


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
