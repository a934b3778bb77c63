# SPDX-License-Identifier: Apache-2.0
"""Citations such as `(reference 1.16)` or "decision 5", links and file names in documents."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from lint.test_linters import TOP, tracked

#: `reference 1.3`, `reference 1.3, 1.4`, `reference 1.3 to 1.5`, `reference 5.2 and 5.3`
REFERENCE = re.compile(r"\breference ((?:\d+\.\d+)(?:(?:,| and| to|,? or) \d+\.\d+)*)(?![\w.]*\d)")
DECISION = re.compile(r"\b[Dd]ecisions? ((?:\d+)(?:(?:,| and| to) \d+)*)\b")
HEADING = re.compile(r"^#{1,3} (\d+(?:\.\d+)?)\.? ", re.M)
LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
SEARCHED = ("agents", "appliances", "packer", "systemd", "tests", "docs", "*.md", "Makefile", "*.toml")


def headings(pages: Iterable[Path]) -> list[str]:
    return [number for page in pages for number in HEADING.findall(page.read_text())]


def broken(text: str, pattern: re.Pattern[str], known: set[str]) -> list[str]:
    """Return the cited numbers in `text` that are not `known`."""
    return [
        number
        for found in pattern.finditer(text)
        for number in re.findall(r"\d+(?:\.\d+)?", found[1])
        if number not in known
    ]


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links in `text` that lead to no file."""
    targets = [first or second for first, second in LINK.findall(text)]
    return [
        target
        for target in targets
        if not re.match(r"[a-z]+:|#", target) and not (page.parent / target.partition("#")[0]).exists()
    ]


def searched() -> Iterable[tuple[Path, str]]:
    for path in tracked(*SEARCHED):
        if path != Path(__file__).resolve():
            try:
                yield path, path.read_text()
            except UnicodeDecodeError:
                continue


def pages() -> list[Path]:
    return sorted((TOP / "docs/reference").glob("*.md"))


def test_sections_of_the_reference_are_unique() -> None:
    numbers = headings(pages())
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("pattern", "known"),
    [
        (REFERENCE, set(headings(pages()))),
        (DECISION, set(headings([TOP / "docs/DECISIONS.md"]))),
    ],
    ids=["reference", "decision"],
)
def test_each_citation_resolves(pattern: re.Pattern[str], known: set[str]) -> None:
    hits = [
        f"{path.relative_to(TOP)}: {number}"
        for path, text in searched()
        for number in broken(text, pattern, known)
    ]
    assert not hits, "\n".join(hits)


def test_each_link_between_documents_resolves() -> None:
    hits = [
        f"{path.relative_to(TOP)}: {target}"
        for path, text in searched()
        if path.suffix == ".md"
        for target in broken_links(path, text)
    ]
    assert not hits, "\n".join(hits)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CloudStack's keys (reference 1.3 to 1.5).", ["1.5"]),
        ("(reference 1.3, 9.9)", ["9.9"]),
        ("(reference 1.3)", []),
        ("a reference 3 times as long", []),
    ],
)
def test_a_citation_without_its_heading_is_found(text: str, expected: list[str]) -> None:
    assert broken(text, REFERENCE, {"1.3", "1.4"}) == expected


def test_a_decision_without_its_heading_is_found() -> None:
    assert broken("docs/DECISIONS.md, decisions 5 and 99", DECISION, {"5"}) == ["99"]


def test_a_link_without_its_file_is_found() -> None:
    text = (
        "[here](CONTRIBUTING.md) [gone](docs/GONE.md#part) ![picture](gone.svg) [out](https://example.test/)"
    )
    assert broken_links(TOP / "README.md", text) == ["docs/GONE.md#part", "gone.svg"]


#: A file in backticks, optionally with a test.
NAMED_FILE = re.compile(r"`((?:[^`\s]+/)?[\w.@-]+\.(?:py|js|sh|svg|service|socket|mk|hcl|toml))(?:::(\w+))?`")


def missing_files(text: str, known: Iterable[Path]) -> list[str]:
    """Return the files, and tests in files, that `text` names in backticks and that do not exist.

    A file exists when a path in `known` ends with its name.
    """
    by_end: dict[str, list[Path]] = {}
    for path in known:
        for count in range(len(path.parts)):
            by_end.setdefault("/".join(path.parts[count:]), []).append(path)
    missing = []
    for name, test in NAMED_FILE.findall(text):
        if re.search(r"^/|^build/|\*|[A-Z]{3}", name):  # a user's, a built one, or a pattern
            continue
        files = by_end.get(name, [])
        if not files:
            missing.append(name)
        elif test and not any(re.search(rf"\bdef {test}\b", (TOP / file).read_text()) for file in files):
            missing.append(f"{name}::{test}")
    return missing


def test_each_file_that_a_document_names_exists() -> None:
    known = [path.relative_to(TOP) for path in tracked()]
    documents = [TOP / "README.md", TOP / "CONTRIBUTING.md", *(TOP / "docs").glob("*.md")]
    hits = [
        f"{page.relative_to(TOP)}: {name}"
        for page in documents
        for name in missing_files(page.read_text(), known)
    ]
    assert not hits, "\n".join(hits)


def test_a_file_or_a_test_that_does_not_exist_is_found() -> None:
    known = [Path("agents/systemvm/rpc/core/method.py"), Path("tests/lint/test_references.py")]
    text = "`rpc/core/method.py`, `core/gone.py`, `/etc/rc.sh`, `lint/test_references.py::test_gone`"
    assert missing_files(text, known) == ["core/gone.py", "lint/test_references.py::test_gone"]


def test_third_party_names_each_wheel_of_the_images() -> None:
    locked = re.findall(r"^([\w.-]+)==", (TOP / "agents/locks/guest.txt").read_text(), re.M)
    table = re.findall(r"^\|(.*)\|$", (TOP / "THIRD-PARTY.md").read_text(), re.M)
    cells = [cell.strip() for row in table[2:] for cell in row.split("|")]
    named = [name for name in cells[::2] if name]
    normal = lambda names: sorted(re.sub(r"[._-]+", "-", name).lower() for name in names)  # noqa: E731
    assert normal(named) == normal(locked)


def test_pictures_of_the_page_can_be_taken_again() -> None:
    """`make screenshots` takes each picture that is there, and documents link to each."""
    taken = set(re.findall(r'^    \("(page[a-z-]*)",', (TOP / "docs/take_screenshots.py").read_text(), re.M))
    there = {path.stem for path in (TOP / "docs/screenshots").glob("page*.png")}
    pages = [path.read_text() for path in (TOP / "README.md", TOP / "docs/OPERATIONS.md")]
    linked = {name for text in pages for name in re.findall(r"screenshots/(page[a-z-]*)\.png", text)}
    assert taken == there == linked
