# SPDX-License-Identifier: Apache-2.0
"""A digest that is saved and continued is the digest of hashlib."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm import resumable_hash
from systemvm.ssvm.resumable_hash import ResumableHash
from systemvm.wire.checksum import ChecksumAlgorithm

NAMES = [each.hashlib_name for each in ChecksumAlgorithm]


@given(st.sampled_from(NAMES), st.lists(st.binary(max_size=300), max_size=8))
def test_a_digest_continues_from_its_saved_state(name: str, parts: list[bytes]) -> None:
    digest = ResumableHash(name)
    for part in parts:
        digest.update(part)
        assert digest.hexdigest(), "looking at it must not end it"
        digest = ResumableHash(name, digest.save())
    assert digest.hexdigest() == hashlib.new(name, b"".join(parts), usedforsecurity=False).hexdigest()


def test_this_machine_can_save_every_algorithm() -> None:
    assert [name for name in NAMES if ResumableHash(name).save() is None] == []


def test_a_state_of_another_library_is_not_continued() -> None:
    state = ResumableHash("sha256").save()
    assert state is not None
    for other in (state.replace(b"libcrypto.so.3", b"libcrypto.so.4"), state[:-1], b""):
        with pytest.raises(ValueError, match="saved by another library"):
            ResumableHash("sha256", other)
    with pytest.raises(ValueError, match="saved by another library"):
        ResumableHash("md5", state)


def test_without_the_functions_of_libcrypto_it_is_hashlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable_hash, "_functions", lambda name: None)
    digest = ResumableHash("sha1")
    digest.update(b"abc")
    assert digest.hexdigest() == hashlib.sha1(b"abc", usedforsecurity=False).hexdigest()
    assert digest.save() is None
