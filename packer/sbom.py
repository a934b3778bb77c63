# SPDX-License-Identifier: Apache-2.0
"""Makes a software bill of materials (SPDX 2.3, JSON) from dpkg's status and the wheels' metadata."""

from __future__ import annotations

import email.parser
import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import gmtime, strftime
from typing import Any
from urllib.parse import quote

from deb_lock import Deb


def debian_packages(status: str) -> Iterator[dict[str, str]]:
    """Return the installed packages in a dpkg status file."""
    for block in status.split("\n\n"):
        fields = email.parser.HeaderParser().parsestr(block)
        if fields.get("Status", "").endswith(" installed"):
            yield {
                key: str(fields.get(key, ""))
                for key in ("Package", "Version", "Architecture", "Source", "Maintainer")
            }


def wheel_metadata(wheel: Path) -> dict[str, str]:
    """Return name, version and licence of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        fields = email.parser.HeaderParser().parsestr(archive.read(name).decode())
    licence = fields.get("License-Expression") or fields.get("License") or ""
    return {
        "name": str(fields["Name"]),
        "version": str(fields["Version"]),
        "licence": str(licence).split("\n")[0],
    }


def document(
    role: str,
    version: str,
    suite: str,
    dpkg_status: Path,
    debs: Iterable[Deb],
    deviations: Iterable[str],
    wheels: Iterable[Path],
    stock: Iterable[Path],
    epoch: int,
) -> dict[str, Any]:
    """Return the document, which depends only on `epoch` and content, so that equal images have equal bills.

    Each binary package is GENERATED_FROM its source package; name and version suffice to get that.
    `deviations` are the packages that are not as locked, for the document's comment.
    """
    packages = [_appliance(role, version)]
    hashes = {deb.key: deb for deb in debs}
    sources: dict[str, dict[str, Any]] = {}
    generated: list[dict[str, str]] = []
    for package in debian_packages(dpkg_status.read_text()):
        source = _source(package, suite)
        sources.setdefault(source["SPDXID"], source)
        deb = hashes[package["Package"], package["Version"], package["Architecture"]]
        packages.append(_debian(package, suite, deb))
        generated.append(_relation(packages[-1]["SPDXID"], "GENERATED_FROM", source))
    for wheel in sorted(wheels, key=lambda path: path.name):
        packages.append(_python(wheel))
    for home in stock:
        about = json.loads((home / "package.json").read_text())
        purl = f"pkg:npm/{quote(about['name'])}@{about['version']}"
        packages.append(_package(f"npm-{home.name}", about["name"], about["version"], about["license"], purl))
    names = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"systemvm-{role}-{version}",
        "documentNamespace": f"urn:systemvm:{role}:{version}:{names}",
        "creationInfo": {
            "created": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(epoch)),
            "creators": ["Tool: systemvm-packer-sbom"],
        },
        "comment": _comment(list(deviations)),
        "packages": [*packages, *sources.values()],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", packages[0]),
            *(_relation(packages[0]["SPDXID"], "CONTAINS", package) for package in packages[1:]),
            *generated,
        ],
    }


def _comment(deviations: list[str]) -> str:
    if not deviations:
        return "All Debian packages are as locked."
    return "Debian packages that are not as locked: " + "; ".join(deviations)


def _relation(subject: str, kind: str, item: dict[str, Any]) -> dict[str, str]:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": item["SPDXID"]}


def _package(spdx_id: str, name: str, version: str, licence: str, purl: str) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-{spdx_id}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "licenseComments": licence,
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
        ],
    }


def _appliance(role: str, version: str) -> dict[str, Any]:
    return _package(
        f"appliance-{role}",
        f"systemvm-{role}",
        version,
        "Apache-2.0",
        f"pkg:generic/systemvm-{role}@{version}",
    )


def _debian(package: dict[str, str], suite: str, deb: Deb) -> dict[str, Any]:
    name, version, arch = package["Package"], package["Version"], package["Architecture"]
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={arch}&distro={suite}"
    licence = f"see /usr/share/doc/{name}/copyright in the image"
    item = _package(f"deb-{_id(f'{name}-{arch}')}", name, version, licence, purl)
    item["packageFileName"] = deb.file_name
    item["checksums"] = [{"algorithm": "SHA256", "checksumValue": deb.sha256}]
    source_name, source_version = source_of(package)
    item["sourceInfo"] = f"built from Debian source package {source_name} {source_version}"
    return item


def _source(package: dict[str, str], suite: str) -> dict[str, Any]:
    name, version = source_of(package)
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch=source&distro={suite}"
    item = _package(f"debsrc-{_id(f'{name}-{version}')}", name, version, "see debian/copyright", purl)
    item["primaryPackagePurpose"] = "SOURCE"
    return item


def source_of(package: dict[str, str]) -> tuple[str, str]:
    """Return name and version of the source package; dpkg writes `Source: NAME (VERSION)` if they differ."""
    name, _, version = package["Source"].partition(" ")
    return name or package["Package"], version.strip("()") or package["Version"]


def _id(text: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in text)


def _python(wheel: Path) -> dict[str, Any]:
    about = wheel_metadata(wheel)
    name = about["name"].lower().replace("_", "-")
    item = _package(f"python-{name.replace('.', '-')}", about["name"], about["version"], about["licence"],
                    f"pkg:pypi/{quote(name)}@{quote(about['version'])}")  # fmt: skip
    item["packageFileName"] = wheel.name
    item["checksums"] = [
        {"algorithm": "SHA256", "checksumValue": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    ]
    return item
