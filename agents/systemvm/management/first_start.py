# SPDX-License-Identifier: Apache-2.0
"""The first start: creates the accounts and a random password.

The start that creates them shows password and API key once on the daemon's standard error: a terminal, or the
journal, which root and the group `systemd-journal` can read. `first-login.json` (0600) contains them for
programs until one takes the file, as `make run` does. The database keeps a hash and a sealed secret.
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
    """The content of `first-login.json`."""

    username: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @classmethod
    def take(cls, path: Path) -> FirstLogin | None:
        """Read the file and delete it; return None when it was taken before."""
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        path.unlink()
        return found


def make_first_accounts(database: Database, seal: Seal, path: Path) -> FirstLogin | None:
    """Create the system account (1) and the administrator (2) in an empty database; None otherwise."""
    if not database.run_now(accounts.is_empty):
        return None
    login = FirstLogin(
        username=ADMIN,
        password=secrets.token_urlsafe(12),
        api_key=secrets.token_urlsafe(48),
        secret_key=secrets.token_urlsafe(48),
    )
    # The file first: if the database fails, the next start creates both again, and no password is lost.
    write_secret(path, json.dumps(asdict(login)).encode() + b"\n")
    password_hash = argon2.PasswordHasher().hash(login.password)
    database.run_now(_insert, login, password_hash, seal.close(login.secret_key))
    return login


def announce(login: FirstLogin, origin: str, path: Path, environment: Mapping[str, str]) -> None:
    """Show the login once, on a terminal or in the journal, which root can read.

    A plain file gets only the path of the login, and the program that started the daemon shows it.
    """
    is_private = sys.stderr.isatty() or "JOURNAL_STREAM" in environment
    lines = ["First start. The login is random; there is no other one."]
    if is_private:
        lines += [
            f"  page        {origin}",
            f"  login       {login.username} / {login.password}",
            f"  API key     {login.api_key}",
            f"  secret key  {login.secret_key}",
            f"It is shown only once. Store it, and delete {path}, which contains it for programs.",
        ]
    else:
        lines.append(f"It is in {path}; delete that file when you have stored the login.")
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def _insert(connection: Connection, login: FirstLogin, password_hash: str, sealed_secret: bytes) -> None:
    root = accounts.create_domain(connection, "ROOT", "/")
    system = accounts.create_account(connection, "system", AccountType.ADMIN, root.id)
    accounts.create_user(connection, "system", system, None)
    admin = accounts.create_account(connection, login.username, AccountType.ADMIN, root.id)
    user = accounts.create_user(connection, login.username, admin, password_hash)
    accounts.add_api_key(connection, user.id, login.api_key, sealed_secret)
