# SPDX-License-Identifier: Apache-2.0
"""A public class name occurs once in the package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "agents" / "systemvm"

#: Names that mean the same in every module that defines them: name → meaning.
SAME_THING: dict[str, str] = {}

#: Names that still have several meanings. Delete an entry after its rename; never add one.
TO_BE_RENAMED: dict[str, str] = {}


def public_classes() -> dict[str, list[str]]:
    """Return the modules that define each public class at their top level."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(PACKAGE)))
    return found


def test_public_class_names_occur_once() -> None:
    repeated = {name: where for name, where in public_classes().items() if len(where) > 1}
    allowed = SAME_THING.keys() | TO_BE_RENAMED
    wrong = [f"{name}: {', '.join(where)}" for name, where in repeated.items() if name not in allowed]
    assert not wrong, "rename all but one of each:\n" + "\n".join(wrong)


def test_allow_list_holds_only_names_that_repeat() -> None:
    repeated = {name for name, where in public_classes().items() if len(where) > 1}
    stale = (SAME_THING.keys() | TO_BE_RENAMED) - repeated
    assert not stale, f"delete from the lists of this file: {', '.join(sorted(stale))}"
