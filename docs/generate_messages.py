#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference/messages.md, the list of error messages with hints and codes (`make messages`).

A message is an argument of an exception that derives from SystemVmError or click's ClickException, or of a
function that returns one. A table from codes to pairs of message and hint counts, too. A placeholder is shown
as {name}. A message that is only passed on is not listed, because it is listed where it is written.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PACKAGE = TOP / "agents" / "systemvm"
OUTPUT = TOP / "docs" / "reference" / "messages.md"

#: Sections of the page: title, introduction, and the packages whose messages are in it.
SECTIONS = (
    (
        "Command line",
        "Written by `systemvm` itself. The code is the exit code.",
        ("cli",),
    ),
    (
        "API",
        "Written by the commands of the API. The code is `errorcode`, which is also the HTTP status.",
        ("management/api",),
    ),
    (
        "Daemon",
        "Written by the services of the daemon, which API and command line pass on.",
        ("management", "host", "web"),
    ),
    (
        "Shared by daemon and system VMs",
        "Written by the RPC peer, by the types of the wire and by what every program uses.",
        ("rpc", "service", "wire"),
    ),
    (
        "System VMs",
        "Written by the agents. Those of downloads are the `status` and `hint` of a template.",
        ("ssvm", "cpvm", "guest"),
    ),
    (
        "Helpers of networks, mounts and guest networks, and launcher",
        "Written by the privileged programs of the host.",
        ("nethelper", "mounthelper", "launcher", "guestnet"),
    ),
)
ROOTS = {"SystemVmError", "ClickException"}
MESSAGE_NAMES = ("message", "text", "details", "reason")


@dataclass(frozen=True)
class Signature:
    """Where the arguments of a class or a function are, and the code that it implies."""

    message: int | None
    hint: int | None
    code: int | None = None
    default_code: str = ""


@dataclass
class Entry:
    """One message with all of its hints, codes and modules."""

    hints: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)


class Source:
    """The parsed modules of the package."""

    def __init__(self) -> None:
        self.modules = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
        self.api_codes = dict(self._enum_values("ErrorCode"))
        self.exit_codes = dict(self._exit_codes())
        self.classes = {
            node.name: node
            for tree in self.modules.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        }
        self.signatures = {
            name: self._of_class(node) for name, node in self.classes.items() if self._is_error(node)
        }
        self.shared_helpers = {
            name: signature
            for module in self.modules.values()
            for name, signature in self.helpers(module).items()
            if not name.startswith("_")
        }

    def helpers(self, tree: ast.Module) -> dict[str, Signature]:
        """Functions of a module that only return an error made of their arguments."""
        return {
            node.name: signature
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and (signature := self._of_helper(node)) is not None
        }

    def _enum_values(self, name: str) -> Iterator[tuple[str, str]]:
        for tree in self.modules.values():
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    for item in node.body:
                        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant):
                            yield ast.unparse(item.targets[0]), str(item.value.value)

    def _exit_codes(self) -> Iterator[tuple[str, str]]:
        for node in ast.walk(self.modules[PACKAGE / "cli" / "daemon_client.py"]):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                values = node.value.elts if isinstance(node.value, ast.Tuple) else []
                for target, value in zip(node.targets[0].elts, values, strict=True):
                    yield ast.unparse(target), ast.unparse(value)

    def _bases(self, node: ast.ClassDef) -> list[str]:
        return [ast.unparse(base).rpartition(".")[2] for base in node.bases]

    def _is_error(self, node: ast.ClassDef) -> bool:
        return node.name in ROOTS or any(
            base in ROOTS or (base in self.classes and self._is_error(self.classes[base]))
            for base in self._bases(node)
        )

    def _of_class(self, node: ast.ClassDef) -> Signature:
        code = self._class_code(node)
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                names = [argument.arg for argument in item.args.args[1:]]
                message = next((names.index(name) for name in MESSAGE_NAMES if name in names), None)
                hint = names.index("hint") if "hint" in names else None
                position = next((names.index(name) for name in ("code", "exit_code") if name in names), None)
                if "exit_code" in names:
                    code = self.exit_codes[ast.unparse(item.args.defaults[-1])]
                return Signature(message, hint, position, code)
        for base in self._bases(node):
            if base in self.classes:
                found = self._of_class(self.classes[base])
                return Signature(found.message, found.hint, found.code, code or found.default_code)
        return Signature(0, 1, None, code)

    def _class_code(self, node: ast.ClassDef) -> str:
        for item in node.body:
            targets = [item.target] if isinstance(item, ast.AnnAssign) else getattr(item, "targets", [])
            if any(isinstance(target, ast.Name) and target.id == "code" for target in targets):
                value = getattr(item, "value", None)
                if value is not None:
                    return ast.unparse(value).rpartition(".")[2].lower()
        return ""

    def _of_helper(self, node: ast.FunctionDef) -> Signature | None:
        body = [item for item in node.body if not (isinstance(item, ast.Expr))]
        if len(body) != 1 or not isinstance(body[0], ast.Return) or not isinstance(body[0].value, ast.Call):
            return None
        call = body[0].value
        signature = self.signatures.get(name_of(call.func))
        if signature is None:
            return None
        names = [argument.arg for argument in node.args.args]

        def position(index: int | None) -> int | None:
            argument = argument_of(call, index, "")
            return (
                names.index(argument.id) if isinstance(argument, ast.Name) and argument.id in names else None
            )

        message = position(signature.message)
        if message is None:
            return None
        code = argument_of(call, signature.code, "code")
        return Signature(
            message, position(signature.hint), None, self.show_code(code, signature.default_code)
        )

    def show_code(self, node: ast.expr | None, default: str) -> str:
        if node is None:
            return default
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.Attribute) and node.attr == "value":
            node = node.value
        owner, _, name = ast.unparse(node).rpartition(".")
        if owner == "ErrorCode":
            return self.api_codes[name]
        return self.exit_codes.get(name) or (name.lower() if name.isupper() else default)


def name_of(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def argument_of(call: ast.Call, index: int | None, keyword: str) -> ast.expr | None:
    """The argument at a position, or with a keyword."""
    for item in call.keywords:
        if item.arg == keyword:
            return item.value
    if index is None or index >= len(call.args):
        return None
    return call.args[index]


def placeholder(node: ast.expr) -> str:
    """A name for an expression in a message: {name}, {strerror}, {count}."""
    while True:
        match node:
            case ast.Call(func=ast.Attribute(attr="join"), args=[inner, *_]):
                node = inner
            case ast.Call(func=ast.Name(id="len"), args=[inner, *_]):
                return f"number of {placeholder(inner)}"
            case ast.Call(args=[inner, *_]):
                node = inner
            case ast.Call(func=ast.Attribute(value=inner)):
                node = inner
            case ast.Subscript(value=inner):
                index = node.slice
                if isinstance(index, ast.Constant) and isinstance(index.value, str):
                    return index.value
                node = inner
            case ast.Attribute(value=inner, attr=name):
                is_generic = name in ("value", "name", "message") and ast.unparse(inner) != "self"
                return placeholder(inner) if is_generic else name.strip("_").lower()
            case ast.Name(id=name):
                return name.strip("_").lower()
            case ast.GeneratorExp(elt=inner) | ast.ListComp(elt=inner):
                node = inner
            case ast.BinOp(left=inner) | ast.BoolOp(values=[inner, *_]) | ast.UnaryOp(operand=inner):
                node = inner
            case ast.IfExp(body=inner) | ast.JoinedStr(values=[ast.FormattedValue(value=inner), *_]):
                node = inner
            case _:
                return "value"


def number_or_placeholder(node: ast.expr, constants: dict[str, str]) -> str:
    name = ast.unparse(node)
    return constants[name] if name.isupper() and name in constants else f"{{{placeholder(node)}}}"


def texts(node: ast.expr | None, constants: dict[str, str]) -> list[str]:
    """The texts that an expression can be; none for one that is only passed on."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            found = [""]
            for part in parts:
                if isinstance(part, ast.Constant):
                    choices = [str(part.value)]
                elif isinstance(part, ast.FormattedValue):
                    choices = [
                        text for text in texts(part.value, constants) if isinstance(part.value, ast.IfExp)
                    ] or [number_or_placeholder(part.value, constants)]
                found = [text + choice for text in found for choice in choices]
            return found
        case ast.IfExp(body=first, orelse=second):
            return texts(first, constants) + texts(second, constants)
        case ast.BinOp(left=first, op=ast.Add(), right=second):
            ends = texts(second, constants)
            return [a + b for a in texts(first, constants) for b in ends]
        case ast.Name(id=name) if name in constants:
            return [constants[name]]
        case _:
            return []


def constants_of(tree: ast.Module) -> dict[str, str]:
    """A module's constants that are numbers or texts, and the texts of local variables named `hint`."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["hint"]:
            found.update(("hint", text) for text in texts(node.value, {}))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value.value, (str, int, float)):
                    found[target.id] = str(node.value.value)
    return found


def messages(source: Source, tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Each message of a module with its hint and its code."""
    constants = constants_of(tree)
    local = source.helpers(tree)
    known = source.signatures | source.shared_helpers | local
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from of_call(source, node, known, constants)
        elif isinstance(node, ast.Dict):
            yield from of_table(node, constants)


def of_call(
    source: Source, call: ast.Call, known: dict[str, Signature], constants: dict[str, str]
) -> Iterator[tuple[str, str, str]]:
    name = name_of(call.func)
    if name == "refused" and isinstance(call.func, ast.Attribute):
        signature = Signature(1, 2, 0)  # RpcError.refused(reason, message, hint)
    elif name in known:
        signature = known[name]
    else:
        return
    hints = texts(argument_of(call, signature.hint, "hint"), constants) or [""]
    code = source.show_code(argument_of(call, signature.code, "code"), signature.default_code)
    for message in texts(argument_of(call, signature.message, "message"), constants):
        for hint in hints:
            yield message, hint, code


def of_table(table: ast.Dict, constants: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """A dictionary from codes to pairs of message and hint."""
    for key, value in zip(table.keys, table.values, strict=True):
        if not isinstance(key, ast.Attribute) or ast.unparse(key.value) == "Role":
            continue
        if isinstance(value, ast.Tuple) and len(value.elts) == 2:
            found = [texts(item, constants) for item in value.elts]
            if all(found) and " " in found[0][0]:
                yield found[0][0], found[1][0], key.attr.lower()


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def render() -> str:
    source = Source()
    sections: dict[str, dict[str, Entry]] = {title: defaultdict(Entry) for title, _, _ in SECTIONS}
    for path, tree in source.modules.items():
        where = str(path.relative_to(PACKAGE))
        matching = [
            (len(package), title)
            for title, _, packages in SECTIONS
            for package in packages
            if where.startswith(f"{package}/")
        ]
        if not matching:
            continue
        section = sections[max(matching)[1]]
        for message, hint, code in messages(source, tree):
            entry = section[cell(message)]
            entry.hints |= {cell(hint)} - {""}
            entry.codes |= {code} - {""}
            entry.modules.add(where)
    lines = [
        "# Messages",
        "",
        "Every error message of the project with its hint and its code. Programs must compare codes, never",
        "messages. `make messages` writes this page from the source; a test fails when it is out of date.",
        "`{name}` stands for a value.",
    ]
    for title, introduction, _ in SECTIONS:
        lines += [
            "",
            f"## {title}",
            "",
            introduction,
            "",
            "| message | hint | code | module |",
            "|---|---|---|---|",
        ]
        for message, entry in sorted(sections[title].items(), key=lambda item: item[0].lower()):
            cells = ("<br>".join(sorted(part)) for part in (entry.hints, entry.codes, entry.modules))
            lines.append(f"| {message} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference/messages.md from the source.")
    parser.add_argument("--check", action="store_true", help="only report whether the page is up to date")
    options = parser.parse_args()
    text = render()
    if options.check:
        if not OUTPUT.exists() or OUTPUT.read_text() != text:
            sys.stderr.write(f'{OUTPUT.relative_to(TOP)} is out of date: run "make messages"\n')
            return 1
        return 0
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
