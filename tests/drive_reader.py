# SPDX-License-Identifier: Apache-2.0
"""The files of a config drive, by pycdlib."""

from __future__ import annotations

import io

import pycdlib

from systemvm.management.hypervisors.base import DomainSpec


def files_on(spec: DomainSpec) -> dict[str, bytes]:
    """Return the files of a machine's config drive by their paths."""
    assert spec.config_drive is not None
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(spec.config_drive))
    found = {}
    for directory, _, names in iso.walk(rr_path="/"):
        for name in names:
            path, content = f"{directory.rstrip('/')}/{name}", io.BytesIO()
            iso.get_file_from_iso_fp(content, rr_path=path)
            found[path.lstrip("/")] = content.getvalue()
    iso.close()
    return found
