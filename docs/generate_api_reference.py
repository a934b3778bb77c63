#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference/api/: each command with its parameters, its answer and who can call it.

`make api-reference` writes it from the table of commands of a daemon with fakes, by which calls are checked.
A page has the commands of one resource. An object that several commands answer is described once.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import typing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
OUTPUT = TOP / "docs" / "reference" / "api"

#: Pages, and what a command has in its name that is on them; the first that fits counts.
PAGES = (
    ("system-vms", "SystemVm|Diagnostics|drainConsoleProxy"),
    ("consoles", "Console"),
    (
        "storage",
        "ImageStore|StoragePool|StorageProvider|StorageTags|StagingStore|SecondaryStorage|StorageMaintenance",
    ),
    ("templates", "Template|(?<!tach)Iso|OsType|OsCategories"),
    ("snapshots", "Snapshot"),
    ("volumes", "Volume"),
    ("machines", "VirtualMachine|Nics|tachIso"),
    (
        "not-here",
        "Affinity|Firewall|InstanceGroup|Project|Router|SecurityGroup|SSHKeyPair|VPC|ForwardingRule",
    ),
    ("certificates", "Certificate|CAProvider|AcmeAccount|PublicName"),
    ("users", "User|login|logout"),
    ("roles", "Role"),
    ("accounts", "Account|Domain|Usage|ResourceLimit|ResourceCount|ApiLimit"),
    ("offerings", "Offering"),
    ("networks", "Network|IpRange|TrafficType|IpAddress"),
    ("zones", "Zone|Pod|Cluster"),
    ("hosts", "Host|Hypervisor"),
    ("events", "Event|Alert"),
    ("settings", "Configuration|Capacity|Capabilities"),
    ("jobs", "AsyncJob|listApis"),
    ("tags", "Tags|Annotation"),
)
SHARED = "objects"

_INDEX = """# Commands of the API

Every command of this release, by resource. These pages are generated: change the declaration of a command
and run `make api-reference`.

A call is `GET` or `POST` of `/client/api` with `command=NAME`, its parameters, `response=json`, and either
`apiKey` and `signature` or a session ([5.1](../api.md)). A parameter that a command does not list is refused
by its name. Names of commands are compared with case.

## Answers

| shape | what is under `<command>response`, in lower case |
|---|---|
| list | `count` and the objects, below their name; nothing when there is none |
| object | the object, below its name |
| keys | the keys of the object themselves |
| job | `jobid`, and `id` of what is created; asynchronous: queryAsyncJobResult has the object |

## Parameters of many commands

A command that takes some of these names them in one line.
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
_SHAPES = {"list": "list of", "object": "object", "bare": "keys of", "async": "job, then"}
_OBJECT = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def render(table: Iterable[Any]) -> dict[str, str]:
    """Return the pages by their file names."""
    pages: defaultdict[str, list[Any]] = defaultdict(list)
    for command in sorted(table, key=lambda each: each.name.lower()):
        pages[page_of(command.name)].append(command)
    places = _places(pages)
    objects: defaultdict[str, list[type]] = defaultdict(list)
    for answer, place in places.items():
        objects[place].append(answer)
    texts = {f"{page}.md": _page(page, pages[page], objects[page], places) for page in sorted(pages)}
    shared = ["# Objects of several resources", "", _GENERATED, *_objects(objects[SHARED], SHARED, places)]
    return {"README.md": _index(pages), f"{SHARED}.md": "\n".join(shared) + "\n", **texts}


def page_of(name: str) -> str:
    for page, pattern in PAGES:
        if re.search(pattern, name):
            return page
    raise ValueError(f"{name} is on no page of the API's reference: name its resource in PAGES of {__file__}")


def object_name(answer: type) -> str:
    """Name an object as its class, in words: `VlanIpRangeAnswer` is a vlan ip range."""
    return _OBJECT.sub(" ", answer.__name__.removesuffix("Answer")).lower()


def _places(pages: dict[str, list[Any]]) -> dict[type, str]:
    """Return the page of each object: that of its commands, or the one of shared objects."""
    found: defaultdict[type, set[str]] = defaultdict(set)
    for page, commands in pages.items():
        for command in commands:
            for answer in _with_inner(command.answer):
                found[answer].add(page)
    ordered = sorted(found, key=object_name)
    return {answer: min(found[answer]) if len(found[answer]) == 1 else SHARED for answer in ordered}


def _with_inner(answer: type, above: frozenset[type] = frozenset()) -> Iterator[type]:
    yield answer
    for _, inner in _keys(answer):
        if inner is not None and inner not in above and inner is not answer:
            yield from _with_inner(inner, above | {answer})


def _keys(answer: type) -> Iterator[tuple[Any, type | None]]:
    """Return each key of an object, and the class of what is in it."""
    import attrs

    from systemvm.management.api.discovery import describe_fields, object_of

    hints = typing.get_type_hints(answer)
    for attribute, key in zip(attrs.fields(answer), describe_fields(answer), strict=True):
        yield key, object_of(hints[attribute.name])


def _groups() -> list[tuple[str, str, Sequence[Any]]]:
    from systemvm.management.api.command import LISTALL
    from systemvm.management.api.ownership import OWNER, OWNERS
    from systemvm.management.api.paging import PAGING

    return [
        ("Paging", "of lists", PAGING),
        ("Owners", "of lists of what accounts own", OWNERS),
        ("Listall", "of lists of what has no owner", (LISTALL,)),
        ("Owner", "of commands that make something", OWNER),
    ]


def _index(pages: dict[str, list[Any]]) -> str:
    from systemvm.management.api.errors import ErrorCode

    lines = []
    for title, meaning, parameters in _groups():
        lines += ["", f"### {title}", "", f"{meaning[0].upper()}{meaning[1:]}.", *_table(parameters)]
    lines += ["", "## Errors", "", _ERRORS]
    lines += ["", "| code | when |", "|---|---|"]
    lines += [f"| {int(code)} | {_WHEN.get(code.name, code.reason)} |" for code in ErrorCode]
    lines += ["", "## Commands", "", "| resource | commands |", "|---|---|"]
    for page in sorted(pages):
        names = ", ".join(f"[{each.name}]({page}.md#{each.name.lower()})" for each in pages[page])
        lines.append(f"| [{page}]({page}.md) | {names} |")
    return _INDEX + "\n".join(lines) + "\n"


_ERRORS = (
    "The HTTP status is `errorcode` of the body; `errortext` says what failed, `hint` what to do, "
    "and `parameter` which one is missing or has a value that was refused."
)
_GENERATED = "Generated by `make api-reference`; see [the index](README.md)."


def _page(page: str, commands: list[Any], objects: list[type], places: dict[type, str]) -> str:
    lines = [f"# {page[0].upper()}{page[1:].replace('-', ' ')}", "", _GENERATED]
    for command in commands:
        lines += ["", f"## {command.name}", "", *_facts(command, page, places), *_parameters(command)]
    return "\n".join([*lines, *_objects(objects, page, places)]) + "\n"


def _facts(command: Any, page: str, places: dict[type, str]) -> Iterator[str]:
    below = f" in `{command.object_name}`" if command.object_name else ""
    answer = f"{_SHAPES[command.shape.value]} {_link(command.answer, page, places)}{below}"
    yield f"{command.description} For {_who(command)}; answers: {answer}."


def _who(command: Any) -> str:
    from systemvm.management.api.principal import ADMIN_ONLY, ADMINISTRATORS

    if command.roles == ADMIN_ONLY:
        return "root administrators"
    return "administrators" if command.roles == ADMINISTRATORS else "everyone"


def _link(answer: type, page: str, places: dict[type, str]) -> str:
    name = object_name(answer)
    file = "" if places[answer] == page else f"{places[answer]}.md"
    return f"[{name}]({file}#{name.replace(' ', '-')}-object)"


def _parameters(command: Any) -> list[str]:
    own, lines = list(command.all_parameters), []
    for title, _, parameters in _groups():
        taken = [one for one in parameters if one in own]
        if taken:
            own = [one for one in own if one not in taken]
            lines.append(
                f"[{title}](README.md#{title.lower()}): {', '.join(f'`{one.name}`' for one in taken)}."
            )
    return [*_table(own), *(["", " ".join(lines)] if lines else [])]


def _table(parameters: Iterable[Any]) -> list[str]:
    rows = [
        f"| `{one.name}` | {one.type.value}{', required' if one.required else ''} |"
        f" {_cell(one.description)}{_values(one)} |"
        for one in parameters
    ]
    return ["", "| parameter | type | meaning |", "|---|---|---|", *rows] if rows else []


def _values(parameter: Any) -> str:
    if parameter.only:
        return f"; only {', '.join(f'`{_text(value)}`' for value in parameter.only)}"
    values = (*parameter.choices, *parameter.literals)
    return f"; one of {', '.join(f'`{value}`' for value in values)}" if parameter.choices else ""


def _objects(objects: list[type], page: str, places: dict[type, str]) -> Iterator[str]:
    for answer in objects:
        yield from ("", f"## {object_name(answer).capitalize()} object", "", "| key | type | meaning |")
        yield "|---|---|---|"
        for key, inner in _keys(answer):
            of = f" of {_link(inner, page, places)}" if inner is not None else ""
            yield f"| `{key.name}` | {key.type}{of} | {_cell(key.description)} |"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


async def _render_this_release() -> dict[str, str]:
    return _pages_of_this_release()  # the daemon's parts need a running loop


def _pages_of_this_release() -> dict[str, str]:
    sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]
    from small_cloud import make
    from small_cloud.rows import fill

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
