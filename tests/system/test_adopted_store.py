# SPDX-License-Identifier: Apache-2.0
"""A template that a CloudStack has put on the store is adopted, deployed, extracted, and never rewritten."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from booted_cloud import BootedCloud, wait_for

pytestmark = pytest.mark.cloud

ACCOUNT, TEMPLATE = 2, 204


@pytest.fixture
def foreign_image(cloud: BootedCloud) -> Iterator[Path]:
    """A template as CloudStack's agent leaves it (reference 2.3, 2.4)."""
    place = cloud.plan.secondary / f"template/tmpl/{ACCOUNT}/{TEMPLATE}"
    place.mkdir(parents=True)
    image = place / "3f9c2d1e-0a6f-3f5c-8f3e-3a2a3f1d9c01.qcow2"
    shutil.copy(cloud.tiny_image, image)
    size = image.stat().st_size
    virtual_bytes = int.from_bytes(image.read_bytes()[24:32], "big")
    (place / "template.properties").write_text(
        "#\n#Tue Nov 17 10:11:12 UTC 2026\n"
        f"id={TEMPLATE}\npublic=true\nuniquename={TEMPLATE}-{ACCOUNT}-aa\nfilename={image.name}\n"
        f"description=foreign-tiny\nhvm=true\nsize={size}\nvirtualsize={virtual_bytes}\nphysicalSize={size}\n"
        f"qcow2=true\nqcow2.filename={image.name}\nqcow2.size={size}\nqcow2.virtualsize={virtual_bytes}\n"
    )
    yield image
    shutil.rmtree(place, ignore_errors=True)


def state_of(place: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in place.iterdir()
    }


def test_cloudstacks_template_is_adopted_deployed_and_read_back(
    cloud: BootedCloud, foreign_image: Path
) -> None:
    before = state_of(foreign_image.parent)
    [store] = cloud.cli_json("store", "list")

    def adopted() -> bool:
        return "1 templates are adopted" in cloud.cli("store", "adopt", store["name"]).stdout

    # it came to the store behind the back of the NFS server and its clients, which remember what was there
    wait_for("the template to appear on the mounted store", adopted, every_s=5)
    [row] = [row for row in cloud.cli_json("template", "list") if row["name"] == "foreign-tiny"]
    assert row["isready"]

    cloud.cli("vm", "deploy", "adopted", "--template", "foreign-tiny")
    [machine] = [vm for vm in cloud.cli_json("vm", "list") if vm["displayname"] == "adopted"]
    assert machine["state"] == "Running"

    link = cloud.cli("template", "export", "foreign-tiny").stdout.strip()
    fetched = cloud.plan.root / "extracted.qcow2"
    authority = cloud.plan.layout.pki / "public-ca.crt"
    subprocess.run(["curl", "-fsS", "--cacert", authority, "-o", fetched, link], check=True)
    assert fetched.read_bytes() == foreign_image.read_bytes()
    assert state_of(foreign_image.parent) == before

    cloud.cli("vm", "destroy", "adopted", "--expunge", "--yes")
    cloud.delete_template(row["id"])
