# SPDX-License-Identifier: Apache-2.0
"""The first login is made once, shown once, and never stored in clear."""

from __future__ import annotations

from pathlib import Path

import argon2
import pytest

from present import present
from systemvm.management.first_start import FirstLogin, announce, make_first_accounts
from systemvm.management.pki.seal import Seal
from systemvm.management.state import accounts
from systemvm.management.state.database import Database


def test_the_first_login_is_made_once(tmp_path: Path) -> None:
    database, seal = Database.open(tmp_path / "db"), Seal.open_key(tmp_path)
    path = tmp_path / "first-login.json"
    made = make_first_accounts(database, seal, path)
    assert made is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_first_accounts(database, seal, path) is None
    assert FirstLogin.take(path) == made
    assert FirstLogin.take(path) is None

    user = present(database.run_now(accounts.user_by_name, "admin"))
    assert argon2.PasswordHasher().verify(present(user.password_hash), made.password)
    key = present(database.run_now(accounts.find_api_key, made.api_key))
    assert seal.open(key.sealed_secret) == made.secret_key
    assert database.run_now(accounts.account_by_id, 1).name == "system"
    database.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("db*"))
    for secret in (made.password, made.secret_key):
        assert secret.encode() not in stored
        assert secret not in repr(made)


def test_the_login_is_shown_in_the_journal_and_never_in_a_plain_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    login = FirstLogin("admin", "pass-word", "key-key", "secret-secret")
    announce(login, "http://127.0.0.1:8080", tmp_path / "first-login.json", {"JOURNAL_STREAM": "8:1"})
    output = capsys.readouterr().err
    for text in (
        "admin / pass-word",
        "key-key",
        "secret-secret",
        "http://127.0.0.1:8080",
        "first-login.json",
    ):
        assert text in output
    announce(login, "http://127.0.0.1:8080", tmp_path / "first-login.json", {})
    output = capsys.readouterr().err
    assert "first-login.json" in output
    assert "pass-word" not in output and "secret-secret" not in output
