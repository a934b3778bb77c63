#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference/api/: each command with its parameters, its answer and who can call it.

`make api-reference` writes it from the table of commands of a daemon with fakes, by which calls are checked.
It is not kept in git: it would be out of date with every other change of a command.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
OUTPUT = TOP / "docs" / "reference" / "api"

_INDEX = """# Commands of the API

Every command of this release: parameters, answer, and who can call it. These pages are generated: change the
declaration of a command and run `make api-reference`.

A call is `GET` or `POST` of `/client/api` with `command=NAME`, its parameters, `response=json`, and either
`apiKey` and `signature` or a session (docs/reference/api.md, 5.1). A parameter that a command does not
list is refused by its name. Names of commands are compared with case.

## Answers

| shape | what is under `<command>response`, in lower case |
|---|---|
| list | `count` and the objects; nothing when there is none |
| object | the object, below its name |
| bare | the keys themselves |
| job | `jobid`, and `id` of what is created; queryAsyncJobResult has the object when the job has ended |

## Errors

The HTTP status is `errorcode` of the body; `errortext` says what failed, `hint` what to do.

| code | when |
|---|---|
"""

_WHEN = {
    "MALFORMED_REQUEST": "the request has no command, or cannot be read",
    "UNAUTHORIZED": "neither signature nor session is valid, or the call comes from another site's page",
    "METHOD_NOT_ALLOWED": "neither GET nor POST; login takes POST only",
    "SECOND_FACTOR": "the user must first send a code of the authenticator app",
    "RATE_LIMITED": "the account has sent too many calls (`api.throttling.max`), or too many logins failed",
    "MALFORMED_PARAMETER": "a parameter is missing, is sent twice, or is not text",
    "PARAMETER": "a parameter is unknown, has a wrong value, or names an object that the caller does not see",
    "UNSUPPORTED": "there is no such command, or the caller's account or role cannot call it",
    "BUSY": "too much is waiting; `Retry-After` has the seconds",
    "INTERNAL": "a defect; the daemon's log has it under the request's id",
    "ACCOUNT": "the login is wrong",
    "ACCOUNT_LIMIT": "the account has reached a limit",
    "INSUFFICIENT_CAPACITY": "no address, place or host is free",
    "RESOURCE_UNAVAILABLE": "a system VM, a host or a server does not answer",
    "RESOURCE_ALLOCATION": "a resource limit or a store's capacity would be exceeded",
    "RESOURCE_IN_USE": "something else uses the object",
}
_SHAPES = {"list": "list", "object": "object", "bare": "bare", "async": "job"}


def render(table: Iterable[Any]) -> dict[str, str]:
    """Return the pages by their file names."""
    pages: defaultdict[str, list[Any]] = defaultdict(list)
    for command in table:
        pages[_page(command)].append(command)
    found = {f"{name}.md": _page_text(name, commands) for name, commands in pages.items()}
    return {"README.md": _index(pages), **found}


def _page(command: Any) -> str:
    """Name the page of a command: the module that declares it, which is where contributors look, too."""
    module = str(command.handler.__module__).rpartition(".")[2]
    return module.removesuffix("_commands").replace("_", "-")


def _index(pages: dict[str, list[Any]]) -> str:
    from systemvm.management.api.errors import ErrorCode

    lines = [f"| {int(code)} | {_WHEN.get(code.name, code.reason)} |" for code in ErrorCode]
    lines += ["", "## Commands", "", "| command | what it does | who |", "|---|---|---|"]
    rows = sorted((command.name, name, command) for name, commands in pages.items() for command in commands)
    for name, page, command in sorted(rows, key=lambda row: row[0].lower()):
        anchor = name.lower()
        lines.append(f"| [{name}]({page}.md#{anchor}) | {_cell(command.description)} | {_who(command)} |")
    return _INDEX + "\n".join(lines) + "\n"


def _page_text(name: str, commands: list[Any]) -> str:
    title = name.replace("-", " ")
    lines = [f"# {title[0].upper()}{title[1:]}", "", "Generated; see [the index](README.md)."]
    for command in sorted(commands, key=lambda each: each.name.lower()):
        lines += ["", f"## {command.name}", "", command.description, "", *_facts(command)]
        lines += _parameters(command.all_parameters)
        lines += _answer(command)
    return "\n".join(lines) + "\n"


def _facts(command: Any) -> Iterator[str]:
    shape = _SHAPES[command.shape.value]
    below = f" `{command.object_name}`" if command.object_name else ""
    yield f"- who: {_who(command)}"
    yield f"- answer: {shape}{below}"
    if command.related:
        yield f"- related: {', '.join(command.related)}"


def _who(command: Any) -> str:
    from systemvm.management.api.principal import ADMIN_ONLY, ADMINISTRATORS

    if command.roles == ADMIN_ONLY:
        return "root administrators"
    return "administrators" if command.roles == ADMINISTRATORS else "everyone"


def _parameters(parameters: Iterable[Any]) -> list[str]:
    rows = [
        f"| `{one.name}` | {one.type.value} | {'yes' if one.required else ''} |"
        f" {_cell(one.description)}{_values(one)} |"
        for one in parameters
    ]
    return ["", "| parameter | type | required | meaning |", "|---|---|---|---|", *rows] if rows else []


def _values(parameter: Any) -> str:
    if parameter.only:
        return f"; only {', '.join(f'`{_text(value)}`' for value in parameter.only)}"
    values = (*parameter.choices, *parameter.literals)
    return f"; one of {', '.join(f'`{value}`' for value in values)}" if parameter.choices else ""


def _answer(command: Any) -> list[str]:
    from systemvm.management.api.discovery import describe_fields

    rows = list(_keys(describe_fields(command.answer), ""))
    return ["", "| key | type | meaning |", "|---|---|---|", *rows] if rows else []


def _keys(fields: Iterable[Any], above: str) -> Iterator[str]:
    for field in fields:
        yield f"| `{above}{field.name}` | {field.type} | {_cell(field.description)} |"
        if field.response:
            yield from _keys(field.response, f"{above}{field.name}.")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


async def _render_this_release() -> dict[str, str]:
    return _pages_of_this_release()  # the daemon's parts need a running loop


def _pages_of_this_release() -> dict[str, str]:
    sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]
    from small_cloud import make
    from small_cloud_rows import fill

    with tempfile.TemporaryDirectory() as directory:
        pristine, place = Path(directory, "pristine"), Path(directory, "cloud")
        pristine.mkdir()
        place.mkdir()
        cloud = make(place, fill(pristine))
        try:
            return render(cloud.table)
        finally:
            cloud.jobs.stop()
            cloud.database.close()


def main() -> int:
    argparse.ArgumentParser(description="Write docs/reference/api/.").parse_args()
    pages = asyncio.run(_render_this_release())
    OUTPUT.mkdir(exist_ok=True)
    for old in OUTPUT.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (OUTPUT / name).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
