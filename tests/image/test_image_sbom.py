# SPDX-License-Identifier: Apache-2.0
"""The bill of materials names all that is in the image, in both directions."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest
from tests.image.built_image import BuiltImage

pytestmark = pytest.mark.image


@pytest.fixture
def bill(image: BuiltImage) -> dict[str, Any]:
    return json.loads(image.file("spdx.json").read_text())


def purls(bill: dict[str, Any], kind: str) -> set[str]:
    references = [package["externalRefs"][0]["referenceLocator"] for package in bill["packages"]]
    return {unquote(purl.split("?")[0]) for purl in references if purl.startswith(f"pkg:{kind}/")}


def test_it_is_spdx(bill: dict[str, Any]) -> None:
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


def test_novnc_is_named_where_it_is(image: BuiltImage, bill: dict[str, Any]) -> None:
    assert bool(purls(bill, "npm")) == (image.root / "opt/systemvm/novnc").exists()
