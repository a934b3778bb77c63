# SPDX-License-Identifier: Apache-2.0
"""The one-time secret of a console URL: random, URL-safe, stored as its hash only."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

TOKEN_BYTES = 32  # 256 bits, 43 characters
#: From the answer of createConsoleEndpoint to the browser's first connection.
TOKEN_LIFETIME = timedelta(seconds=60)
#: Unspent tokens that the users of one account may hold for one VM, a token each, and for all VMs. One more
#: voids the oldest: whoever asks gets a link that works, and nobody fills the table.
MAX_UNSPENT_OF_VM = 10
MAX_UNSPENT_OF_ACCOUNT = 50
#: How long the browser's cookie may open new connections after the token was spent.
SESSION_LIFETIME = timedelta(hours=4)


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
