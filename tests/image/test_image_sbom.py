# SPDX-License-Identifier: Apache-2.0
"""The bill of materials and the image contain the same packages."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest

from image.built_image import BuiltImage

from deb_lock import committed  # isort: skip  - packer/ is on the path once built_image is imported

pytestmark = pytest.mark.image


@pytest.fixture
def bill(image: BuiltImage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(image.file("spdx.json").read_text())
    return found


def purls(bill: dict[str, Any], kind: str) -> set[str]:
    """Return names and versions of the binary packages of a kind."""
    references = [package["externalRefs"][0]["referenceLocator"] for package in bill["packages"]]
    binaries = (purl for purl in references if purl.startswith(f"pkg:{kind}/") and "arch=source" not in purl)
    return {unquote(purl.split("?")[0]) for purl in binaries}


def test_document_is_valid_spdx(bill: dict[str, Any]) -> None:
    assert bill["spdxVersion"] == "SPDX-2.3"
    assert bill["dataLicense"] == "CC0-1.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", bill["creationInfo"]["created"])
    ids = [package["SPDXID"] for package in bill["packages"]]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", identifier) for identifier in ids)
    related = {relation["relatedSpdxElement"] for relation in bill["relationships"]}
    assert related == set(ids)


def test_every_debian_package_is_named_with_its_version(image: BuiltImage, bill: dict[str, Any]) -> None:
    listed = image.host.run("dpkg-query -W -f '${db:Status-Status} ${Package}@${Version}\\n'").stdout
    states = [line.split() for line in listed.splitlines()]
    installed = {f"pkg:deb/debian/{name}" for state, name in states if state == "installed"}
    assert len(installed) > 100
    assert purls(bill, "deb") == installed


def test_every_python_package_is_named_with_its_version_and_wheel(
    image: BuiltImage, bill: dict[str, Any]
) -> None:
    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    installed = {
        f"pkg:pypi/{normal(name)}@{version}"
        for name, version in (
            path.name.removesuffix(".dist-info").rsplit("-", 1) for path in image.lib.glob("*.dist-info")
        )
    }
    assert len(installed) > 15
    assert {normal(purl) for purl in purls(bill, "pypi")} == {normal(purl) for purl in installed}
    wheels = [package for package in bill["packages"] if package["SPDXID"].startswith("SPDXRef-python-")]
    assert all(len(package["checksums"][0]["checksumValue"]) == 64 for package in wheels)


def test_debian_packages_match_the_lock_or_are_listed_as_deviations(
    image: BuiltImage, bill: dict[str, Any]
) -> None:
    """All other hashes are those of the lock; manifest and bill list the same deviations."""
    locked = {(deb.name, deb.version): deb.sha256 for deb in committed("amd64").of_role(image.role)}
    debs = [package for package in bill["packages"] if package["SPDXID"].startswith("SPDXRef-deb-")]
    installed = {(deb["name"], deb["versionInfo"]): deb["checksums"][0]["checksumValue"] for deb in debs}
    differing = {name for name, _ in locked.items() ^ installed.items()}
    deviations = image.manifest["inputs"]["deviations"]
    assert {line.split(":")[0] for line in deviations} == {name for name, _ in differing}
    assert all(line in bill["comment"] for line in deviations)


def test_every_debian_package_names_its_source(bill: dict[str, Any]) -> None:
    by_id = {package["SPDXID"]: package for package in bill["packages"]}
    sources = {
        relation["spdxElementId"]: by_id[relation["relatedSpdxElement"]]
        for relation in bill["relationships"]
        if relation["relationshipType"] == "GENERATED_FROM"
    }
    binaries = {name for name in by_id if name.startswith("SPDXRef-deb-")}
    assert sources.keys() == binaries
    assert sources["SPDXRef-deb-libssl3t64-amd64"]["name"] == "openssl"
    for source in sources.values():
        assert source["primaryPackagePurpose"] == "SOURCE"
        assert source["externalRefs"][0]["referenceLocator"].endswith("?arch=source&distro=trixie")


def test_every_debian_package_keeps_its_copyright_file(image: BuiltImage) -> None:
    listed = image.host.run("dpkg-query -W -f '${Package}\\n'").stdout.split()
    assert len(listed) > 100
    without = [name for name in listed if not (image.root / f"usr/share/doc/{name}/copyright").exists()]
    assert without == []


def test_novnc_is_listed_where_it_is_installed(image: BuiltImage, bill: dict[str, Any]) -> None:
    assert bool(purls(bill, "npm")) == (image.root / "opt/systemvm/novnc").exists()
