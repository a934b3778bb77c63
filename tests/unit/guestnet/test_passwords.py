# SPDX-License-Identifier: Apache-2.0
"""CloudStack's password server: who is given which password, and until when."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemvm.guestnet.passwords import PasswordDirectory, answer
from systemvm.host.guest_services import GuestPassword

MACHINE, PEER = "10.13.0.50_020000000001", "10.13.0.50"


@pytest.fixture
def passwords(tmp_path: Path) -> PasswordDirectory:
    found = PasswordDirectory(tmp_path)
    found.put(MACHINE, GuestPassword("a1", "first one"))
    return found


def test_a_password_is_answered_until_it_is_saved(passwords: PasswordDirectory, tmp_path: Path) -> None:
    for _ in range(2):
        assert answer("send_my_password", passwords, PEER) == (200, "first one")
    assert passwords.taken() == []
    assert answer("saved_password", passwords, PEER) == (200, "saved_password")
    assert answer("send_my_password", passwords, PEER) == (200, "saved_password")
    assert passwords.taken() == ["a1"]
    assert all(path.read_text() == "" for path in tmp_path.iterdir())


def test_a_password_that_was_taken_is_not_put_again(passwords: PasswordDirectory) -> None:
    passwords.take(PEER)
    passwords.put(MACHINE, GuestPassword("a1", "first one"))
    assert passwords.waiting(PEER) is None
    passwords.put(MACHINE, GuestPassword("b2", "second one"))
    assert passwords.waiting(PEER) == "second one"
    assert passwords.taken() == []
    passwords.take(PEER)
    passwords.put(MACHINE, None)
    assert passwords.taken() == []


def test_a_server_that_was_killed_in_between_has_forgotten_it(
    passwords: PasswordDirectory, tmp_path: Path
) -> None:
    (tmp_path / f"{MACHINE}_a1.taken").touch()  # its mark, and not yet the end of the password
    assert passwords.waiting(PEER) is None
    assert passwords.taken() == ["a1"]
    passwords.put(MACHINE, None)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("peer", ["10.13.0.5", "10.13.0.51", "::ffff:10.13.0.50", "*", "", "../10.13.0.50"])
def test_no_machine_has_anothers_password(passwords: PasswordDirectory, peer: str) -> None:
    assert answer("send_my_password", passwords, peer) == (200, "saved_password")
    assert answer("saved_password", passwords, peer) == (200, "saved_password")
    assert passwords.waiting(PEER) == "first one"


def test_of_two_machines_with_one_address_none_gets_a_password(passwords: PasswordDirectory) -> None:
    other = f"{PEER}_020000000002"
    passwords.put(other, GuestPassword("b2", "second one"))
    assert answer("send_my_password", passwords, PEER) == (200, "saved_password")
    passwords.take(PEER)
    assert passwords.taken() == []
    passwords.put(MACHINE, None)
    assert passwords.waiting(PEER) == "second one"


@pytest.mark.parametrize("asked", ["", "save_password", "SEND_MY_PASSWORD", "send_my_password "])
def test_any_other_request_is_a_bad_one(passwords: PasswordDirectory, asked: str) -> None:
    assert answer(asked, passwords, PEER) == (400, "bad_request")
    assert passwords.waiting(PEER) == "first one"


@pytest.mark.parametrize("text", ["../x", "a_b", "", "A", "a" * 37])
def test_an_id_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a password"):
        GuestPassword(text, "x")


def test_a_password_is_not_shown() -> None:
    assert "first" not in repr(GuestPassword("a1", "first one"))
