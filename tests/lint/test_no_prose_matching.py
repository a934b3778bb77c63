# SPDX-License-Identifier: Apache-2.0
"""No program matches prose of another program: daemon, command line and pages read codes and fields.

A match is a regular expression that contains an English term, or a comparison of a message with a literal.
Matches are found in the syntax tree, so their formatting does not matter. Each allowed match is listed
with its reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agents/systemvm"
READERS = ("management", "cli")
PAGES = ("management/page/static", "cpvm/page")

#: Modules that parse the output of other projects' programs, which have no codes.
FOREIGN = {
    "management/hypervisors/linux_console.py": "the kernel and systemd on a serial console",
    "management/state/topics.py": "SQL that SQLAlchemy writes",
    "management/hypervisors/qemu_output.py": "QEMU on its standard error",
    "management/system_vms/linux_commands.py": "systemctl, ip and bash in a guest",
}
#: Other comparisons, by file and source, that do not match prose of this project's programs.
ALLOWED: dict[tuple[str, str], str] = {
    (
        "management/hypervisors/serial_log.py",
        "text.rpartition(START_MARKER)",
    ): "the daemon's own marker in a log",
    ("management/pki/public.py", "text.endswith(f'.{tree.value}'.lower())"): "a domain name",
    ("management/system_vms/patch_bundle.py", "'extra ==' not in line"): "a requirement (PEP 508)",
}

_MESSAGES = frozenset(
    {
        "complaint",
        "console",
        "description",
        "details",
        "errortext",
        "hint",
        "journal",
        "line",
        "lines",
        "message",
        "output",
        "reason",
        "said",
        "status",
        "statustext",
        "stderr",
        "stdout",
        "text",
        "why",
        "words",
    }
)
_TEXT_METHODS = frozenset(
    {
        "count",
        "endswith",
        "find",
        "index",
        "partition",
        "removeprefix",
        "removesuffix",
        "rfind",
        "rindex",
        "rpartition",
        "rsplit",
        "split",
        "startswith",
    }
)
_UNCHANGED = frozenset({"casefold", "decode", "lower", "lstrip", "rstrip", "strip", "upper"})
_TERM = re.compile(r"[A-Za-z]{3,}")
_SYNTAX = re.compile(r"\[(?:\\.|[^\]\\])*\]|\(\?P?<\w+>|\(\?P=\w+\)|\(\?[a-z]+[:)]|\\.|\{[\d,]+\}")
_PROSE = re.compile(r"[A-Za-z]{2,}:? [A-Za-z]{2,}|%")
_JS_MATCH = re.compile(
    r"""/[^/\s*][^/\n]*/[a-z]*\.(?:test|exec)\(|\.(?:match|matchAll|search|replace)\(\s*/"""
    r"""|\.(?:includes|startsWith|endsWith|indexOf|lastIndexOf|search)\(\s*["'`]|new RegExp\("""
)


def _is_message(node: ast.expr) -> bool:
    """Return whether an expression is a message for people, by its name."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name.lower().lstrip("_") in _MESSAGES
        case ast.Subscript(slice=ast.Constant(value=str() as name)):
            return name.lower() in _MESSAGES
        case ast.Call(func=ast.Name(id="str"), args=[_]):
            return True
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str() as name), *_]):
            return name.lower() in _MESSAGES
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _UNCHANGED:
            return _is_message(value)
        case ast.BoolOp(values=values):
            return any(_is_message(value) for value in values)
    return False


def _literal(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Constant(value=bytes() as data):
            return data.decode("latin-1")
        case ast.JoinedStr(values=values):
            return "".join(_literal(value) or "" for value in values)
    return None


def _compares(literal: str | None, subject: ast.expr) -> bool:
    """Return whether a literal is searched in a message."""
    if literal is None:
        return _is_message(subject)
    if _PROSE.search(literal):
        return True
    return _is_message(subject) and any(character.isalpha() for character in literal)


def matches(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the source of each match of prose in a Python file."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re")), args=[first, *_]):
                pattern = _literal(first)
                found = pattern is not None and _TERM.search(_SYNTAX.sub(" ", pattern)) is not None
            case ast.Call(func=ast.Attribute(value=subject, attr=method), args=[first, *_]):
                arguments = first.elts if isinstance(first, ast.Tuple) else [first]
                found = method in _TEXT_METHODS and any(
                    _compares(_literal(argument), subject) for argument in arguments
                )
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[right]):
                is_group = isinstance(right, ast.Tuple | ast.List | ast.Set | ast.Dict)
                literal = _literal(left)
                found = not is_group and literal is not None and _compares(literal, right)
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
                sides = [(_literal(left), right), (_literal(right), left)]
                found = any(text is not None and _PROSE.search(text) for text, _ in sides)
            case _:
                continue
        if found:
            yield node.lineno, ast.unparse(node)


def js_matches(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the source of each match of prose in a script of a page."""
    for number, line in enumerate(source.splitlines(), 1):
        if not line.lstrip().startswith("//") and _JS_MATCH.search(line):
            yield number, line.strip()


def found_in_python() -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for folder in READERS:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            name = str(path.relative_to(PACKAGE))
            if name not in FOREIGN and "migrations" not in name:
                found |= {(name, text): number for number, text in matches(path.read_text("utf-8"))}
    return found


def test_daemon_and_command_line_match_no_prose() -> None:
    found = found_in_python()
    new = [
        f"{name}:{number}: {text}" for (name, text), number in found.items() if (name, text) not in ALLOWED
    ]
    assert not new, "read a code or a field instead (see wire/):\n" + "\n".join(new)
    gone = [place for place in ALLOWED if place not in found]
    assert not gone, f"delete from ALLOWED: {gone}"


def test_pages_match_no_prose() -> None:
    found = [
        f"{path.name}:{number}: {text}"
        for folder in PAGES
        for path in sorted((PACKAGE / folder).rglob("*.js"))
        for number, text in js_matches(path.read_text("utf-8"))
    ]
    assert not found, "read a code or a field of the answer instead:\n" + "\n".join(found)


def test_modules_of_foreign_text_exist() -> None:
    assert all((PACKAGE / name).is_file() for name in FOREIGN)


@pytest.mark.parametrize(
    "source",
    [
        'PATTERN = re.compile(r"Cannot start: (?P<why>.*)")',
        'found = re.search(r"TLS|certificate|PEM|key", why)',
        'if "waiting up to" in line: pass',
        'if "refused" in dial.text: pass',
        'if row["status"].startswith("Installing"): pass',
        'moving = "%" in row["status"]',
        'if agent.status.reason.startswith("has not answered"): pass',
        'if (vm.reason or "").startswith(ENDED): pass',
        'if "denied" in str(error): pass',
        'rest = line.partition("Cannot start: ")[2]',
        'if error.message == "no such template": pass',
        'if "busy" in answer.get("errortext", "").lower(): pass',
    ],
)
def test_a_match_of_prose_is_found(source: str) -> None:
    assert list(matches(source)), source


@pytest.mark.parametrize(
    "source",
    [
        'NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")',
        'if "zoneid" in parameters: pass',
        'key, _, value = line.partition("=")',
        "if reason == BootFailure.NIC_ABSENT.value: pass",
        'if error.reason == "store_hangs": pass',
        'if state in ("Running", "Up"): pass',
    ],
)
def test_codes_and_formats_are_not_prose(source: str) -> None:
    assert not list(matches(source)), source


@pytest.mark.parametrize(
    "source",
    [
        'const moving = /%|Install/.test(template.status ?? "");',
        "const percent = /(\\d+)%/.exec(status)[1];",
        'if (error.message.includes("not found")) retry();',
        "if (status.startsWith('Installing')) wait();",
        "const found = text.match(/denied/);",
        'const pattern = new RegExp("denied");',
    ],
)
def test_a_match_of_prose_in_a_page_is_found(source: str) -> None:
    assert list(js_matches(source)), source


def test_codes_in_a_page_are_not_prose() -> None:
    assert not list(
        js_matches("if ([409, 503].includes(answer.status)) retry();\nif (code === 4409) wait();")
    )


def literal_reasons(source: str) -> Iterator[tuple[int, str]]:
    """Yield each reason of a refusal that is a literal and not a member of an enum of `wire/`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="refused"), args=[first, *_]):
                pass
            case ast.Call(func=ast.Name(id="ObjectAccess"), args=[_, _, first]):
                pass
            case _:
                continue
        if _literal(first) is not None:
            yield node.lineno, ast.unparse(node)


def test_reasons_of_refusals_are_members_of_an_enum() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, text in literal_reasons(path.read_text("utf-8"))
    ]
    assert not found, "take the reason from an enum of wire/:\n" + "\n".join(found)


def test_a_literal_reason_is_found() -> None:
    assert list(literal_reasons('raise RpcError.refused("busy", "it is busy")'))
    assert list(literal_reasons('ObjectAccess("its own", owns, "not-yours")'))
    assert not list(literal_reasons('raise RpcError.refused(TransferFailure.BUSY, "it is busy")'))
