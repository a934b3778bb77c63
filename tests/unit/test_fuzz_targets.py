# SPDX-License-Identifier: Apache-2.0
"""The targets of `make fuzz` withstand their own seeds, changed and cut, without the fuzzer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_parser_raises_only_declared_errors(name: str) -> None:
    target = TARGETS[name]

    @given(st.sampled_from(target.seeds), st.integers(0, 2000), st.binary(max_size=8))
    def check(seed: bytes, place: int, value: bytes) -> None:
        start = place % len(seed)
        target.run(seed[:start] + value + seed[start + len(value) :])
        target.run(seed[:start])

    for seed in target.seeds:
        target.run(seed)
    check()
