# SPDX-License-Identifier: Apache-2.0
"""Tables of domains, accounts, their limits and roles, users, their keys and logins."""

from __future__ import annotations

import sqlalchemy as sa

from systemvm.management.state.columns import UtcDateTime, now, numbered
from systemvm.management.state.schema.base import table
from systemvm.management.state.status import AccountType

domains = table(
    "domains",
    *numbered(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("path", sa.String(255), nullable=False, unique=True),
    sa.Column("parent_id", sa.ForeignKey("domains.id"), index=True),
)

# Roles that administrators have made; the three that every installation has are in `state/roles.py`.
roles = table(
    "roles",
    *numbered(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("type", sa.Integer, nullable=False),  # of accounts that can have it: an account type
    sa.Column("description", sa.String(1024), nullable=False, default=""),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True),  # domain administrators see it
)

role_permissions = table(
    "role_permissions",
    *numbered(),
    sa.Column("role_id", sa.ForeignKey("roles.id"), nullable=False, index=True),
    sa.Column("rule", sa.String(255), nullable=False),  # a command, or several with `*`
    sa.Column("is_allowed", sa.Boolean, nullable=False),
    sa.Column("description", sa.String(1024), nullable=False, default=""),
    sa.Column("place", sa.Integer, nullable=False),  # the first rule that matches a command decides
)

accounts = table(
    "accounts",
    *numbered(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("type", sa.Integer, nullable=False, default=AccountType.USER),
    sa.Column("domain_id", sa.ForeignKey("domains.id"), nullable=False),
    sa.Column("state", sa.String(20), nullable=False, default="enabled"),
    sa.Column("max_secondary_storage_gib", sa.BigInteger),  # NULL: the zone's; -1: no limit
    sa.Column("role_id", sa.Integer),  # NULL: the role that each account of its type has
)

# What an administrator has set for an account or for a domain, one of both; -1: no limit.
resource_limits = table(
    "resource_limits",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id")),
    sa.Column("domain_id", sa.ForeignKey("domains.id")),
    sa.Column("type", sa.Integer, nullable=False),  # CloudStack's number of the kind of resource
    sa.Column("most", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("account_id", "type"),
    sa.UniqueConstraint("domain_id", "type"),
)

users = table(
    "users",
    *numbered(),
    sa.Column("username", sa.String(255), nullable=False),
    sa.Column("password_hash", sa.String(255)),  # argon2id; NULL: this user cannot log in with a password
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("domain_id", sa.ForeignKey("domains.id"), nullable=False),
    sa.Column("first_name", sa.String(255), nullable=False, default=""),
    sa.Column("last_name", sa.String(255), nullable=False, default=""),
    sa.Column("email", sa.String(255), nullable=False, default="", server_default=""),
    sa.Column("state", sa.String(20), nullable=False, default="enabled"),
    sa.Column("second_factor_mandated", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Index(None, "account_id"),
)

api_keys = table(
    "api_keys",
    *numbered(),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("api_key", sa.String(255), nullable=False, unique=True),
    # Encrypted and not hashed: a signature can be verified only with the secret itself.
    sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
    sa.Column("name", sa.String(255)),  # NULL: the one of registerUserKeys
    sa.Column("expires", UtcDateTime),
    sa.Column("rules", sa.JSON),  # patterns of the commands that it can call; NULL: all that its user can
)

sessions = table(
    "sessions",
    *numbered(),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("cookie_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("session_key_hash", sa.String(64), nullable=False),
    sa.Column("client_address", sa.String(64)),
    sa.Column("last_used", UtcDateTime, nullable=False, default=now),
    sa.Column("expires", UtcDateTime, nullable=False),
    # False: the user's second factor is not verified yet, and the session can do nothing else.
    sa.Column("is_verified", sa.Boolean, nullable=False, default=True, server_default=sa.true()),
)

# Secrets that authenticator apps share: encrypted and not hashed, because codes are computed with them.
second_factors = table(
    "second_factors",
    *numbered(),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, unique=True),
    sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
    sa.Column("is_confirmed", sa.Boolean, nullable=False, default=False),  # by a first code
    sa.Column("last_step", sa.BigInteger),  # of the last code that was used
)

# Sources, which are IPv4 addresses or IPv6 /64 networks, from which a user logged in with the right password.
login_sources = table(
    "login_sources",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("last_login", UtcDateTime, nullable=False),
    sa.UniqueConstraint("user_id", "source"),
)
