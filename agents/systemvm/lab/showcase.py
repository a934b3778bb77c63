# SPDX-License-Identifier: Apache-2.0
"""What `make run` shows: real media served, registered and Ready, and a machine with a screen."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

from attrs import frozen

from systemvm.lab import guest_image
from systemvm.lab.api import ApiClient
from systemvm.lab.cloud import Cloud
from systemvm.lab.errors import LabError
from systemvm.lab.plan import Plan
from systemvm.lab.reporting import Reporter

IPXE_ISO = Path("/usr/lib/ipxe/ipxe.iso")
MACHINE_NAME = "hello"

_READY_S = 300.0
_DEPLOY_S = 180.0
_POLL_S = 0.5


@frozen
class Medium:
    """Something to register."""

    noun: str  # Template | Iso
    name: str
    display_text: str
    file: str

    @property
    def object_name(self) -> str:
        return self.noun.lower()

    @property
    def filter(self) -> dict[str, str]:
        return {f"{self.object_name}filter": "self"}


TINY = Medium("Template", "tiny", "Debian's kernel and busybox, with a shell on its screen", "tiny.qcow2")
IPXE = Medium("Iso", "ipxe", "the iPXE boot firmware", "ipxe.iso")


def publish(plan: Plan) -> None:
    """Put the media where the web server finds them, under the names that they are registered by."""
    plan.source_pages.mkdir(parents=True, exist_ok=True)
    for source, name in ((guest_image.build(plan.build), TINY.file), (IPXE_ISO, IPXE.file)):
        target = plan.source_pages / name
        if not target.exists() or _sha256(target) != _sha256(source):
            shutil.copyfile(source, target)


def register(cloud: Cloud, medium: Medium, reporter: Reporter) -> dict[str, Any]:
    """Register a medium, unless an earlier run did, and wait until it is Ready."""
    api = cloud.api
    with reporter.step(f"{medium.noun.lower()} {medium.name}") as shown:
        shown.waits_for("the answer to its registration")
        found = _find(api, medium)
        if found is not None and _failed(found):
            api.run(f"delete{medium.noun}", id=found["id"])
            found = None
        if found is None:
            found = _register(cloud, api, medium)
        deadline = time.monotonic() + _READY_S
        while not found["isready"]:
            if _failed(found):
                raise LabError(f"{medium.name}: {found.get('status')}", str(found.get("hint") or ""))
            if time.monotonic() > deadline:
                said = found.get("status") or "no SSVM took it"
                raise LabError(
                    f"{medium.name} is not Ready after {_READY_S:g} s: {said}",
                    f"see {cloud.daemon_log}",
                )
            shown.waits_for(str(found.get("status") or "its SSVM"), _percent(found))
            time.sleep(_POLL_S)  # as the page and every CloudStack client do: the query API has no events
            found = _find(api, medium) or found
    return found


def deploy(cloud: Cloud, template: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """A machine made from the template, or an earlier run's started again."""
    api = cloud.api
    with reporter.step(f"machine {MACHINE_NAME} (a linked clone)") as shown:

        def waiting(elapsed: float) -> None:
            shown.waits_for("its disk and its start")

        found = api.items("listVirtualMachines", "virtualmachine", name=MACHINE_NAME)
        if not found:
            [offering] = api.items("listServiceOfferings", "serviceoffering", name="tiny")
            result = api.run(
                "deployVirtualMachine", timeout_s=_DEPLOY_S, waiting=waiting, name=MACHINE_NAME,
                zoneid=template["zoneid"], templateid=template["id"], serviceofferingid=offering["id"],
            )  # fmt: skip
        elif found[0]["state"] != "Running":
            result = api.run("startVirtualMachine", timeout_s=_DEPLOY_S, waiting=waiting, id=found[0]["id"])
        else:
            return found[0]
    machine: dict[str, Any] = result.get("virtualmachine", result)
    return machine


def _register(cloud: Cloud, api: ApiClient, medium: Medium) -> dict[str, Any]:
    [zone] = api.items("listZones", "zone")
    more = {"format": "QCOW2", "hypervisor": "KVM"} if medium is TINY else {"bootable": True}
    answer = api.call(
        f"register{medium.noun}",
        name=medium.name,
        displaytext=medium.display_text,
        url=f"{cloud.plan.source_url}/{medium.file}",
        checksum="{SHA-256}" + _sha256(cloud.plan.source_pages / medium.file),
        zoneid=zone["id"],
        **more,
    )
    found: dict[str, Any] = answer[medium.object_name][0]
    return found


def _find(api: ApiClient, medium: Medium) -> dict[str, Any] | None:
    found = api.items(f"list{medium.noun}s", medium.object_name, name=medium.name, **medium.filter)
    return found[0] if found else None


def _failed(found: dict[str, Any]) -> bool:
    states = {str(detail.get("downloadState")) for detail in found.get("downloaddetails", [])}
    return "DOWNLOAD_ERROR" in states


def _percent(found: dict[str, Any]) -> float | None:
    for detail in found.get("downloaddetails", []):
        text = str(detail.get("downloadPercent", "")).rstrip("%")
        if text.isdigit():
            return float(text)
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
