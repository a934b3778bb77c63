# SPDX-License-Identifier: Apache-2.0
"""The option --root of programs that run at boot."""

from __future__ import annotations

import pytest

from systemvm.guest.root_option import split_root


@pytest.mark.parametrize(
    ("arguments", "root", "others"),
    [
        ([], "/", []),
        (["--json"], "/", ["--json"]),
        (["--root", "/mnt"], "/mnt", []),
        (["--json", "--root", "/mnt", "more"], "/mnt", ["--json", "more"]),
    ],
)
def test_the_directory_and_the_other_arguments_are_returned(
    arguments: list[str], root: str, others: list[str]
) -> None:
    assert split_root(arguments) == (root, others)


def test_root_needs_a_directory() -> None:
    with pytest.raises(ValueError, match="--root has no directory"):
        split_root(["--json", "--root"])
