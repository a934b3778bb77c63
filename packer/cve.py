# SPDX-License-Identifier: Apache-2.0
"""Lists known vulnerabilities of the images: of Debian's packages by debsecan, of wheels by pip-audit.

usage: python packer/cve.py [ROLE…]

Both use services on the Internet. With CVE_DATA=DIR debsecan reads the file DIR/SUITE instead, in the format
of Debian's security tracker. PIP_AUDIT_OSV_URL and PIP_AUDIT_VULNERABILITY_SERVICE select the service of
pip-audit. Reports: build/cve. Exit code: 0 none known, 1 some known, 2 a part cannot be examined.
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

    Raises: CannotExamineError when debsecan is not installed or fails, or its input is missing.
    """
    program = shutil.which("debsecan")
    if program is None:
        raise CannotExamineError("debsecan is not installed\nhint:  run apt-get install debsecan")
    if not status.exists():
        raise CannotExamineError(f"{status} does not exist\nhint:  run `make images`")
    source = []
    if data is not None:
        if not (data / suite).is_file():
            raise CannotExamineError(
                f"{data / suite} (CVE_DATA) does not exist\n"
                f"hint:  download it from Debian's security tracker: debsecan/release/1/{suite}"
            )
        source = ["--source", data.resolve().as_uri()]
    done = subprocess.run(
        [program, "--suite", suite, "--status", status, "--format", "simple", *source],
        capture_output=True, text=True, check=False, env=mirror.environment(), timeout=600,
    )  # fmt: skip
    if done.returncode != 0:
        raise CannotExamineError(
            f"debsecan: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}\n"
            "hint:  check the access to Debian's security tracker, or set CVE_DATA=DIR (packer/cve.py)"
        )
    return Findings(f"{role}'s Debian packages", sorted(set(done.stdout.splitlines())))


def python(lock: Path) -> Findings:
    """Return pip-audit's findings for the locked wheels.

    Raises: CannotExamineError when pip-audit fails.
    """
    installed = Path(sys.executable).with_name("pip-audit")
    program = str(installed) if installed.exists() else shutil.which("pip-audit")
    if program is None:
        raise CannotExamineError("pip-audit is not installed\nhint:  run `pipx install pip-audit`")
    done = subprocess.run(
        [program, "--requirement", lock, "--require-hashes", "--disable-pip", "--progress-spinner", "off",
         "--format", "json"],
        capture_output=True, text=True, check=False, env=mirror.environment(), timeout=600,
    )  # fmt: skip
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise CannotExamineError(
            f"pip-audit: {last[0]}\nhint:  check the access to its vulnerability service (docs/OPERATIONS.md)"
        ) from None
    skipped = [str(item["name"]) for item in dependencies if "skip_reason" in item]
    if skipped:
        raise CannotExamineError(
            f"pip-audit: packages are unknown to its service: {', '.join(skipped)}\n"
            "hint:  set PIP_AUDIT_VULNERABILITY_SERVICE to another service"
        )
    lines = [
        f"{found['id']} {item['name']} {item['version']}"
        for item in dependencies
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
