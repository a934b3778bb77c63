# SPDX-License-Identifier: Apache-2.0
"""Lists known vulnerabilities of the images: of Debian's packages by debsecan, of wheels by pip-audit.

usage: python packer/cve.py [ROLE…]

Both use services on the Internet. CVE_DATA=DIR gives debsecan its data from the file DIR/SUITE instead, as
Debian's security tracker serves it; pip-audit heeds PIP_AUDIT_OSV_URL and PIP_AUDIT_VULNERABILITY_SERVICE.
Reports: build/cve. Exit code: 0 none known, 1 some known, 2 a part could not be examined, with a message.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import mirror
from appliance import ROLES, TOP, load
from attrs import frozen
from cache import GUEST_LOCK

BUILD = TOP / "build"
REPORTS = BUILD / "cve"


class CannotExamineError(Exception):
    """A part cannot be examined."""


@frozen
class Findings:
    """The vulnerabilities of one part, one line for each."""

    part: str
    lines: list[str]


def debian(role: str, status: Path, suite: str, data: Path | None) -> Findings:
    """Return debsecan's findings for the packages in a dpkg status file.

    Raises CannotExamineError when it is not installed, has no data, or there is no such file.
    """
    program = shutil.which("debsecan")
    if program is None:
        raise CannotExamineError("debsecan is not installed\nhint:  apt-get install debsecan")
    if not status.exists():
        raise CannotExamineError(f"{status} does not exist\nhint:  `make images` leaves it there")
    source = []
    if data is not None:
        if not (data / suite).is_file():
            raise CannotExamineError(
                f"CVE_DATA has no file {data / suite}\n"
                f"hint:  it is what Debian's security tracker serves as debsecan/release/1/{suite}"
            )
        source = ["--source", data.resolve().as_uri()]
    done = subprocess.run(
        [program, "--suite", suite, "--status", status, "--format", "simple", *source],
        capture_output=True, text=True, check=False, env=mirror.environment(), timeout=600,
    )  # fmt: skip
    if done.returncode != 0:
        raise CannotExamineError(
            f"debsecan: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}\n"
            "hint:  it needs Debian's security tracker, or CVE_DATA=DIR with its data (packer/cve.py)"
        )
    return Findings(f"{role}'s Debian packages", sorted(set(done.stdout.splitlines())))


def python(lock: Path) -> Findings:
    """Return pip-audit's findings for the locked wheels.

    Raises: CannotExamineError when pip-audit fails.
    """
    beside = Path(sys.executable).with_name("pip-audit")
    program = str(beside) if beside.exists() else shutil.which("pip-audit")
    if program is None:
        raise CannotExamineError(
            "pip-audit is not installed\nhint:  `pipx install pip-audit`; the locked environment lacks it"
        )
    done = subprocess.run(
        [program, "--requirement", lock, "--require-hashes", "--disable-pip", "--progress-spinner", "off",
         "--format", "json"],
        capture_output=True, text=True, check=False, env=mirror.environment(), timeout=600,
    )  # fmt: skip
    try:
        answered = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        raise CannotExamineError(
            f"pip-audit: {last[0]}\nhint:  it needs a vulnerability service (docs/OPERATIONS.md)"
        ) from None
    skipped = [str(item["name"]) for item in answered if "skip_reason" in item]
    if skipped:
        raise CannotExamineError(
            f"pip-audit's service does not know {', '.join(skipped)}\n"
            "hint:  PIP_AUDIT_VULNERABILITY_SERVICE chooses another service"
        )
    lines = [
        f"{found['id']} {item['name']} {item['version']}"
        for item in answered
        for found in item.get("vulns", [])
    ]
    return Findings("the agents' wheels", sorted(lines))


def main(arguments: list[str]) -> int:
    roles = arguments or list(ROLES)
    if any(role not in ROLES for role in roles):
        print(__doc__, file=sys.stderr)
        return 64
    data = Path(os.environ["CVE_DATA"]) if os.environ.get("CVE_DATA") else None
    REPORTS.mkdir(parents=True, exist_ok=True)
    code = 0
    parts = [
        (made.name, partial(debian, made.name, BUILD / f"base/{made.name}.dpkg-status", made.suite, data))
        for made in map(load, roles)
    ]
    for name, examine in [*parts, ("python", partial(python, GUEST_LOCK))]:
        report = REPORTS / f"{name}.txt"
        report.unlink(missing_ok=True)
        try:
            findings = examine()
        except CannotExamineError as error:
            print(f"error: cannot examine {name}: {error}", file=sys.stderr)
            code = 2
            continue
        report.write_text("".join(f"{line}\n" for line in findings.lines))
        print(f"{findings.part}: {len(findings.lines)} known vulnerabilities ({report.relative_to(TOP)})")
        for line in findings.lines:
            print(f"  {line}")
        code = max(code, int(bool(findings.lines)))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
