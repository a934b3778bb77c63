# SPDX-License-Identifier: Apache-2.0
"""Runs apt with its own state: it resolves and downloads for another system, and installs nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import mirror
from attrs import frozen
from deb_lock import Deb

#: The packages of mmdebstrap's minbase variant, which base/rootfs.sh installs.
MINBASE = ("?essential", "?priority(required)", "apt")


class CannotResolveError(Exception):
    """apt found no set of packages; the message is apt's."""


@frozen
class IsolatedApt:
    """apt's state for one suite and architecture below `directory`; indexes must be signed."""

    directory: Path
    suite: str
    architecture: str

    def update(self) -> None:
        """Load the mirrors' indexes.

        Raises: SystemExit with apt's output when one cannot be loaded.
        """
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "status").write_text("")
        (self.directory / "preferences").write_text("")
        lines = mirror.signed_source_lines(self.suite)
        (self.directory / "sources.list").write_text("\n".join(lines) + "\n")
        done = self._apt("update", "--error-on=any")
        if done.returncode != 0:
            raise SystemExit(
                f"{done.stderr.strip()}\nerror: indexes of the Debian mirror cannot be loaded\n"
                "hint:  set MIRROR=, CA_BUNDLE= or http_proxy, or build with OFFLINE=1 (packer/README.md)"
            )

    def resolve(self, packages: Iterable[str], pins: Iterable[Deb] = ()) -> list[Deb]:
        """Return what apt would install on an empty system, with pinned versions where the mirror has them.

        Raises: CannotResolveError with apt's output.
        """
        preferences = "".join(
            f"Package: {deb.name}\nPin: version {deb.version}\nPin-Priority: 1001\n\n" for deb in pins
        )
        (self.directory / "preferences").write_text(preferences)
        done = self._apt(
            "install", "--yes", "--quiet=2", "--print-uris", "--no-install-recommends",
            "-o", "Acquire::ForceHash=SHA256", *MINBASE, *packages,
        )  # fmt: skip
        if done.returncode != 0:
            raise CannotResolveError(done.stderr.strip())
        return sorted(_printed(line) for line in done.stdout.splitlines() if line.startswith("'"))

    def download(self, debs: list[Deb], destination: Path) -> None:
        """Download the packages to `destination`; each is checked against the signed index."""
        destination.mkdir(parents=True, exist_ok=True)
        (self.directory / "preferences").write_text("")
        done = self._apt(
            "download", "--quiet=2", *(f"{deb.name}={deb.version}" for deb in debs), directory=destination
        )
        if done.returncode != 0:
            raise SystemExit(f"{done.stderr.strip()}\nerror: cannot download all Debian packages")

    def _apt(self, *arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        home = self.directory.resolve()
        settings = {
            "Dir::State": home / "state", "Dir::State::status": home / "status", "Dir::Cache": home / "cache",
            "Dir::Etc::SourceList": home / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": home / "preferences", "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Architecture": self.architecture, "APT::Architectures": self.architecture,
            "APT::Install-Suggests": "false", "APT::Sandbox::User": "root", "Acquire::Languages": "none",
            "Acquire::Retries": "3", "Acquire::http::Timeout": "60", "Acquire::https::Timeout": "60",
        }  # fmt: skip
        options = [option for key, value in settings.items() for option in ("-o", f"{key}={value}")]
        return subprocess.run(
            ["apt-get", *options, *mirror.apt_options(), *arguments],
            capture_output=True, text=True, check=False, cwd=directory,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip


def _printed(line: str) -> Deb:
    """Parse a line of --print-uris: 'URI' name_version_architecture.deb bytes SHA256:hash."""
    _, file_name, size, sha256 = line.split()
    name, version, architecture = file_name.removesuffix(".deb").split("_")
    return Deb(name, unquote(version), architecture, int(size), sha256.removeprefix("SHA256:"))
