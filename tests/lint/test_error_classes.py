# SPDX-License-Identifier: Apache-2.0
"""Every exception class of the package derives from one base with a code, a message and a hint."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "agents/systemvm"
BASE = "SystemVmError"
#: Other bases with a message, a hint and an exit code; `message` is final in click's class.
OTHER_BASES = {"ClickException"}
#: Classes that cannot have the base, each with the reason.
EXCEPTED = {
    "service/errors.py:SystemVmError": "is the base",
    "guest/patch.py:PatchError": "the file is sent to guests by itself and imports nothing of the package",
}


def exception_classes(source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each exception class by the names of its bases, with these bases."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            if any(base.endswith(("Exception", "Error")) or base == "BaseException" for base in bases):
                yield node.name, bases


def without_base(package: Path) -> list[str]:
    """Return the exception classes below `package` that do not derive from the base, as `path:name`."""
    bases: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for path in sorted(package.rglob("*.py")):
        for name, named in exception_classes(path.read_text("utf-8")):
            place = f"{path.relative_to(package)}:{name}"
            bases.setdefault(name, named)
            places[place] = name

    def has_base(name: str) -> bool:
        return name == BASE or name in OTHER_BASES or any(has_base(base) for base in bases.get(name, []))

    return [place for place, name in places.items() if not has_base(name)]


def test_every_exception_class_has_the_base() -> None:
    found = [place for place in without_base(PACKAGE) if place not in EXCEPTED]
    assert not found, f"derive them from {BASE} of service/errors.py: {found}"


def test_a_class_without_the_base_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("class A(SystemVmError): pass\nclass B(A, LookupError): pass\n")
    (tmp_path / "bad.py").write_text("class CError(RuntimeError): pass\n")
    assert without_base(tmp_path) == ["bad.py:CError"]
