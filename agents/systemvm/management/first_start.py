# SPDX-License-Identifier: Apache-2.0
"""The first start: the accounts that must be there, and a password that nobody chose.

The password and the API key are shown once, by the start that made them, on the daemon's standard error: a
terminal, or the journal, which root and the group `systemd-journal` read. `first-login.json` (0600) holds the
same for programs, until one takes it, as `make run` does. The database keeps a hash and a sealed secret.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import argon2
import msgspec
from attrs import asdict, field, frozen

from systemvm.management.pki.keystore import write_secret
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.status import AccountType

ADMIN = "admin"


@frozen
class FirstLogin:
    """What `first-login.json` holds."""

    username: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @classmethod
    def take(cls, path: Path) -> FirstLogin | None:
        """Read the file and delete it; None when it was taken before."""
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        path.unlink()
        return found


def make_first_accounts(database: Database, seal: Seal, path: Path) -> FirstLogin | None:
    """On an empty database make the system account (1) and the administrator (2); None on any later start."""
    if not database.run_now(accounts.is_empty):
        return None
    login = FirstLogin(
        username=ADMIN,
        password=secrets.token_urlsafe(12),
        api_key=secrets.token_urlsafe(48),
        secret_key=secrets.token_urlsafe(48),
    )
    # The file first: should the database fail, the next start makes both anew, and no password is lost.
    write_secret(path, json.dumps(asdict(login)).encode() + b"\n")
    password_hash = argon2.PasswordHasher().hash(login.password)
    database.run_now(_insert, login, password_hash, seal.close(login.secret_key))
    return login


def announce(login: FirstLogin, origin: str, path: Path, environment: Mapping[str, str]) -> None:
    """Show a person the login, once: on a terminal, or in the journal, which root reads.

    A plain file is neither: there it is said where the login is, and whoever started the daemon shows it.
    """
    shown = sys.stderr.isatty() or "JOURNAL_STREAM" in environment
    lines = ["First start. The login is random; there is no other."]
    if shown:
        lines += [
            f"  page        {origin}",
            f"  login       {login.username} / {login.password}",
            f"  API key     {login.api_key}",
            f"  secret key  {login.secret_key}",
            f"It is shown this once. Keep it, and delete {path}, which holds it for programs.",
        ]
    else:
        lines.append(f"It is in {path}; delete that when you have it.")
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def _insert(connection: Connection, login: FirstLogin, password_hash: str, sealed_secret: bytes) -> None:
    root = accounts.create_domain(connection, "ROOT", "/")
    system = accounts.create_account(connection, "system", AccountType.ADMIN, root.id)
    accounts.create_user(connection, "system", system, None)
    admin = accounts.create_account(connection, login.username, AccountType.ADMIN, root.id)
    user = accounts.create_user(connection, login.username, admin, password_hash)
    accounts.add_api_key(connection, user.id, login.api_key, sealed_secret)
