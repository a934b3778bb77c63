# SPDX-License-Identifier: Apache-2.0
"""Check unit files and firewall rules with the programs that read them: systemd-analyze and nft."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

UNITS = sorted(
    path for kind in ("service", "socket", "target", "mount") for path in (TOP / "systemd").rglob(f"*.{kind}")
)


def test_units_verify(tmp_path: Path) -> None:
    """Verify all units at once, because they refer to one another.

    The programs are in the images or on an operator's host, so each is replaced by /bin/true.
    """
    assert UNITS
    search = tmp_path / "units"
    search.mkdir()
    for unit in UNITS:
        text = unit.read_text()
        (search / unit.name).write_text(re.sub(r"^(Exec\w+=[-+!@]*)\S+", r"\1/bin/true", text, flags=re.M))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *sorted(search.iterdir())],
        env={"SYSTEMD_UNIT_PATH": f"{search}:/lib/systemd/system", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [
        line for line in done.stderr.splitlines() if str(search) in line or any(u.name in line for u in UNITS)
    ]
    assert not complaints, "\n".join(complaints)


@pytest.mark.netns
@pytest.mark.parametrize("role", ["ssvm", "cpvm"])
def test_nftables_of_the_appliances_parse(role: str) -> None:
    rules = TOP / "appliances" / role / "nftables.conf"
    done = subprocess.run(["nft", "--check", "--file", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
