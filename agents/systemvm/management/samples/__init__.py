# SPDX-License-Identifier: Apache-2.0
"""Sample configuration files, which `--prepare` writes beside missing ones."""

from __future__ import annotations

from importlib.resources import files

from systemvm.host.layout import Layout


def read_sample(name: str) -> str:
    """Return the text of `managementd.yaml`, `zone.yaml` or `host.yaml`."""
    return files(__package__).joinpath(name).read_text("utf-8")


def leave_samples(layout: Layout) -> None:
    """Write missing files: the daemon's, and a zone and a host under names that the daemon does not read."""
    for path, name in (
        (layout.config_file, "managementd.yaml"),
        (layout.zones / "zone.yaml.sample", "zone.yaml"),
        (layout.etc / "host.yaml.sample", "host.yaml"),
    ):
        if not path.exists():
            path.write_text(read_sample(name))
            path.chmod(0o644)
