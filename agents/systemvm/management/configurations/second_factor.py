# SPDX-License-Identifier: Apache-2.0
"""The settings of second factors, with CloudStack's names and defaults."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.configurations.setting import Setting, SettingError
from systemvm.management.state import configurations
from systemvm.management.state.accounts import User
from systemvm.management.state.database import Connection

_GROUP = "Access"
MAX_ISSUER_LENGTH = 64


def _issuer(text: str) -> str:
    """Return the name that apps show beside a user's.

    Raises: SettingError for one that an `otpauth:` URI cannot have.
    """
    name = text.strip()
    if not name or len(name) > MAX_ISSUER_LENGTH or ":" in name or not name.isprintable():
        raise SettingError(
            f"issuer must have 1 to {MAX_ISSUER_LENGTH} characters, and no colon: {name[:80]!r}"
        )
    return name


ENABLE = Setting(
    name="enable.user.2fa",
    default=False,
    description="users can set up an authenticator app, whose codes their logins ask for from then on",
    group=_GROUP,
    scope="global",
)
MANDATE = Setting(
    name="mandate.user.2fa",
    default=False,
    description="with enable.user.2fa: who logs in with a password must set up an authenticator app first",
    group=_GROUP,
    scope="global",
)
ISSUER = Setting(
    name="user.2fa.issuer",
    default="CloudStack",
    check=_issuer,
    description="name that authenticator apps show beside the user's",
    group=_GROUP,
    scope="global",
)

SECOND_FACTOR_SETTINGS = (ENABLE, MANDATE, ISSUER)


@frozen
class SecondFactorSettings:
    """What holds for all users."""

    is_enabled: bool
    is_mandated: bool
    issuer: str

    def mandates(self, user: User) -> bool:
        """Return whether this user must set up a second factor: as all must, or by updateUser."""
        return self.is_mandated or (self.is_enabled and user.second_factor_mandated)


def read(connection: Connection) -> SecondFactorSettings:
    """Return the present values."""
    changed = configurations.values(connection, None)
    is_enabled = bool(ENABLE.value_in(changed))
    is_mandated = is_enabled and bool(MANDATE.value_in(changed))
    return SecondFactorSettings(is_enabled, is_mandated, str(ISSUER.value_in(changed)))
