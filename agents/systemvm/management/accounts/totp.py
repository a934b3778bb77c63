# SPDX-License-Identifier: Apache-2.0
"""One-time passwords of authenticator apps: RFC 6238, with 6 digits, SHA-1 and steps of 30 s.

Its libraries are imported where they are used: most daemons need neither.
"""

from __future__ import annotations

import hmac
from datetime import datetime

STEP_S = 30
#: A clock of a telephone can be a step early or late (RFC 6238, 5.2).
TOLERANCE_STEPS = 1


def new_secret() -> str:
    """Return a secret of 160 bits in base32, as apps take it."""
    import pyotp

    return pyotp.random_base32()


def matching_step(secret: str, code: str, moment: datetime, *, after: int | None = None) -> int | None:
    """Return the step whose code this is; None for a wrong code.

    A step up to `after` was used before. Its code is refused: whoever saw it cannot use it again.
    """
    import pyotp

    generator, present = pyotp.TOTP(secret), int(moment.timestamp()) // STEP_S
    for step in range(present - TOLERANCE_STEPS, present + TOLERANCE_STEPS + 1):
        is_right = hmac.compare_digest(generator.at(step * STEP_S).encode(), code.encode())
        if is_right and (after is None or step > after):
            return step
    return None


def address_of(secret: str, username: str, issuer: str) -> str:
    """Return the `otpauth:` URI that an app takes from a QR code."""
    import pyotp

    return pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=issuer)


def qr_rows(text: str) -> list[str]:
    """Return a QR code without its margin: a text for each row, with 1 for each dark module."""
    import segno

    return [
        "".join("1" if module else "0" for module in row) for row in segno.make_qr(text, error="m").matrix
    ]
