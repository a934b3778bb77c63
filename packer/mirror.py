# SPDX-License-Identifier: Apache-2.0
"""Where Debian's packages come from: the mirrors that this host's own apt uses, found at build time."""

from __future__ import annotations

import subprocess

_FORMAT = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"


def source_lines(suite: str) -> list[str]:
    """apt's source lines of `suite`, its updates and its security fixes, from the host's mirrors."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    main: list[str] = []
    security: list[str] = []
    for line in listing.splitlines():
        origin, label, component, uri = line.split("|", 3)
        if origin == "Debian" and component == "main":
            kind = security if "Security" in label else main
            if uri not in kind:
                kind.append(uri)
    if not main:
        raise SystemExit(
            "error: this host's apt knows no mirror of Debian\n"
            "hint:  see /etc/apt/sources.list.d, and run apt-get update once"
        )
    lines = [f"deb {main[0]} {suite} main", f"deb {main[0]} {suite}-updates main"]
    return lines + [f"deb {uri} {suite}-security main" for uri in security[:1]]
