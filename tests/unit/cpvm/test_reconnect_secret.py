# SPDX-License-Identifier: Apache-2.0
"""The rotating secret of a session: lost responses, races, and secrets of before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from systemvm.cpvm.reconnect_secret import ReconnectSecret, SecretCheck


def test_each_connection_replaces_the_secret() -> None:
    secret = ReconnectSecret()
    first = secret.first()
    assert secret.check(first) is SecretCheck.VALID
    second = secret.issue(first)
    secret.confirm()
    assert (secret.check(first), secret.check(second)) == (SecretCheck.REPLACED, SecretCheck.VALID)
    assert secret.check("guess") is SecretCheck.WRONG
    assert secret.check(None) is SecretCheck.WRONG


def test_after_a_lost_response_both_secrets_are_valid_until_one_is_confirmed() -> None:
    secret = ReconnectSecret()
    first = secret.first()
    second = secret.issue(first)
    assert secret.is_undecided
    secret.give_up()
    assert (secret.check(first), secret.check(second)) == (SecretCheck.VALID, SecretCheck.VALID)
    third = secret.issue(second)
    secret.confirm()
    checks = [secret.check(each) for each in (first, second, third)]
    assert checks == [SecretCheck.REPLACED, SecretCheck.REPLACED, SecretCheck.VALID]


def test_no_secret_is_stored_in_clear_text() -> None:
    secret = ReconnectSecret()
    first = secret.first()
    second = secret.issue(first)
    assert len(first) >= 40
    for each in (first, second):
        assert each not in repr(secret)
        assert each.encode() not in repr([secret._valid, secret._issued]).encode()


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_a_browser_never_loses_its_session_and_old_secrets_never_work(
    connections: list[tuple[bool, bool]],
) -> None:
    """Each connection: did the response arrive, and did the browser's answer to it?"""
    secret = ReconnectSecret()
    has = secret.first()
    before: list[str] = []
    for response_arrives, answer_arrives in connections:
        assert secret.check(has) is SecretCheck.VALID
        issued = secret.issue(has)
        # a killed process leaves the browser both, whether it has the response or not
        restored = ReconnectSecret.restored(secret.save())
        assert [restored.check(each) for each in (has, issued)] == [SecretCheck.VALID] * 2
        assert not any(restored.check(old) is SecretCheck.VALID for old in before)
        if response_arrives and answer_arrives:
            before.append(has)
            secret.confirm()
        else:
            secret.give_up()
        if response_arrives:
            has = issued
        assert len(secret._valid) <= 2
        secret = ReconnectSecret.restored(secret.save())
        if response_arrives and answer_arrives:
            assert not any(secret.check(old) is SecretCheck.VALID for old in before)
