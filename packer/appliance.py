# SPDX-License-Identifier: Apache-2.0
"""An appliance as defined in appliances/: the base's values and lists, with the role's added."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs
import yaml

from systemvm.host.architecture import Architecture

TOP = Path(__file__).resolve().parents[1]
ROLES = ("ssvm", "cpvm")


def _known_architecture(name: str) -> str:
    return Architecture.of(name).value


@attrs.frozen
class Appliance:
    """One role; in lists the base's entries come first."""

    role: str
    suite: str
    architecture: str = attrs.field(converter=_known_architecture)
    source_date_epoch: int
    disk_bytes: int
    image_max_bytes: int
    append: str
    users: list[str]
    packages_of_ours: list[str]
    units: list[str]
    enable: list[str]
    programs: dict[str, str]
    python_prune: list[str]
    ports: list[dict[str, Any]]
    budget: dict[str, float]

    @property
    def version(self) -> str:
        with (TOP / "pyproject.toml").open("rb") as stream:
            return str(tomllib.load(stream)["project"]["version"])

    @property
    def machine(self) -> Architecture:
        return Architecture.of(self.architecture)

    @property
    def name(self) -> str:
        """The base name of its files."""
        return self.machine.image_name(self.role)

    @property
    def kernel_arguments(self) -> str:
        return self.append.replace("@CONSOLE@", self.machine.console)

    @property
    def debian_packages(self) -> list[str]:
        base, own = TOP / "appliances/base", TOP / "appliances" / self.role
        files = [base / "packages", base / f"packages.{self.architecture}", own / "packages"]
        names = [name for path in files if path.exists() for name in read_list(path)]
        return [name.replace("@ARCH@", self.architecture) for name in names]

    @property
    def definition(self) -> list[Path]:
        """The files and directories that define this appliance."""
        return [TOP / "appliances/base", TOP / "appliances" / self.role]


def read_list(path: Path) -> list[str]:
    """Return the lines of a list, without comments and blank lines."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def load(role: str, architecture: str | None = None) -> Appliance:
    """Return the appliance of a role, for the base's architecture or another one.

    A key that is missing or unknown is an error that names the file.
    """
    base = yaml.safe_load((TOP / "appliances/base/appliance.yaml").read_text())
    path = TOP / "appliances" / role / "appliance.yaml"
    own = yaml.safe_load(path.read_text())
    base.pop("distribution")
    merged = dict(base)
    if architecture is not None:
        own = {**own, "architecture": architecture}
    for key, value in own.items():
        if isinstance(value, list) and key in base:
            merged[key] = [*base[key], *value]
        elif isinstance(value, dict) and key in base:
            merged[key] = {**base[key], **value}
        else:
            merged[key] = value
    try:
        return Appliance(**merged)
    except (TypeError, ValueError) as error:
        raise SystemExit(f"error: {path}: {error}") from error
