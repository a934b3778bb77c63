# SPDX-License-Identifier: Apache-2.0
"""Configuration files to learn from; the first start leaves them where theirs would be."""

from __future__ import annotations

from importlib.resources import files

from systemvm.host.layout import Layout


def read_sample(name: str) -> str:
    """`managementd.yaml` or `zone.yaml`."""
    return files(__package__).joinpath(name).read_text("utf-8")


def leave_samples(layout: Layout) -> None:
    """Write what is missing: the daemon's file, and a zone under a name that is not read."""
    for path, name in (
        (layout.config_file, "managementd.yaml"),
        (layout.zones / "zone.yaml.sample", "zone.yaml"),
    ):
        if not path.exists():
            path.write_text(read_sample(name))
            path.chmod(0o644)
