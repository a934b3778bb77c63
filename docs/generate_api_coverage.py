#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference/api-coverage.md: CloudStack's commands beside the table of this release.

`make api-coverage` writes it. CloudStack's commands and parameters are in
docs/reference/cloudstack-commands.txt; this release's come from the table of commands of a daemon with fakes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]
COMMANDS = TOP / "docs" / "reference" / "cloudstack-commands.txt"
OUTPUT = TOP / "docs" / "reference" / "api-coverage.md"
PAGING = ("keyword", "page", "pagesize")

_HEAD = """# Coverage of CloudStack's API

CloudStack's commands about system VMs, templates, consoles and what these need, beside the commands
of this release. This page is generated: change the commands and run `make api-coverage`.

A parameter that is refused gets error 431 with its name, and a command that is not here error 432:
nothing is ignored. Some parameters are served with the one value that is true here, which listApis
tells. Those that every client adds, such as `response` and `signature`, and those of paging that all
lists take are not listed.
"""


@dataclass(frozen=True)
class CloudStackCommand:
    name: str
    parameters: tuple[str, ...]


def cloudstack_commands() -> list[CloudStackCommand]:
    found = []
    for line in COMMANDS.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, kind, *parameters = line.split()
        names = [parameter.removesuffix("*") for parameter in parameters]
        found.append(CloudStackCommand(name, (*names, *(PAGING if kind == "list" else ()))))
    return found


def parameters_of(table: Iterable[Any]) -> dict[str, list[str]]:
    """Return the names of the parameters of each command of a table."""
    return {command.name: [one.name for one in command.all_parameters] for command in table}


def render(served: Mapping[str, Iterable[str]]) -> str:
    """Return the page; `served` are the parameters of each command of this release."""
    known = cloudstack_commands()
    here = [command for command in known if command.name in served]
    lines = [_HEAD, f"Of {len(known)} commands {len(here)} are served.", "", "## Served", ""]
    lines += ["| command | served | refused by name | additions |", "|---|---|---|---|"]
    for command in sorted(here, key=lambda each: each.name.lower()):
        names = set(served[command.name])
        theirs = set(command.parameters)
        columns = (names & theirs - set(PAGING), theirs - names, names - theirs - set(PAGING))
        lines.append(f"| {command.name} | {' | '.join(map(_listed, columns))} |")
    lines += ["", "## Not here", ""]
    lines += [f"- {command.name}" for command in known if command.name not in served]
    lines += ["", "## Further commands", ""]
    lines.append("Other commands of this release: CloudStack's that its clients also call, and additions.")
    lines.append("")
    others = sorted(set(served) - {command.name for command in known}, key=str.lower)
    lines += [f"- {name}" for name in others]
    return "\n".join(lines) + "\n"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "–"


async def _served() -> dict[str, list[str]]:
    return _parameters_of_this_release()  # the daemon's parts need a running loop


def _parameters_of_this_release() -> dict[str, list[str]]:
    sys.path[:0] = [str(TOP / "tests"), str(TOP / "agents")]
    from small_cloud import make
    from small_cloud.rows import fill

    with tempfile.TemporaryDirectory() as directory:
        pristine, place = Path(directory, "pristine"), Path(directory, "cloud")
        pristine.mkdir()
        place.mkdir()
        cloud = make(place, fill(pristine))
        try:
            return parameters_of(cloud.table)
        finally:
            cloud.jobs.stop()
            cloud.database.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference/api-coverage.md.")
    parser.parse_args()
    OUTPUT.write_text(render(asyncio.run(_served())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
