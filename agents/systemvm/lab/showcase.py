# SPDX-License-Identifier: Apache-2.0
"""What `make run` shows: real media served, registered and Ready, and a machine with a screen."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from systemvm.lab import explanation, guest_image
from systemvm.lab.api_client import ApiClient
from systemvm.lab.cloud import Cloud
from systemvm.lab.errors import LabError
from systemvm.lab.plan import Plan
from systemvm.lab.reporting import Reporter
from systemvm.lab.waiting import EndedError, Look

IPXE_ISO = Path("/usr/lib/ipxe/ipxe.iso")
MACHINE_NAME = "hello"

#: A sample that shows no progress for so long is left for later: the cloud is of use without it.
LATE_S = 180.0
_GONE = ("Destroyed", "Expunging", "Error")


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


class SampleError(LabError):
    """A sample's download, or its deployment, has failed."""


class Sample(Protocol):
    """Something that the cloud shows; each look goes on with its making where the last one left it."""

    title: str
    #: How an operator gets it when it has failed: arguments of `systemvm`.
    retry: str

    def look(self) -> Look[dict[str, Any]]:
        """SampleError or ApiRefusedError when it has failed; OSError when the API does not answer."""

    def explain(self) -> str: ...


class MediumSample:
    """A medium that is registered, unless an earlier run did that, until it is Ready."""

    def __init__(self, cloud: Cloud, medium: Medium) -> None:
        self._cloud = cloud
        self._medium = medium
        self._begun = False
        self._found: dict[str, Any] | None = None
        self.title = f"{medium.noun.lower()} {medium.name}"
        self.retry = f"{medium.object_name} register {medium.name} {cloud.plan.source_url}/{medium.file}"

    def look(self) -> Look[dict[str, Any]]:
        api, medium = self._cloud.api, self._medium
        found = _find(api, medium)
        if not self._begun and found is not None and _failed(found):
            api.run(f"delete{medium.noun}", id=found["id"])  # an earlier run's
            found = None
        if found is None and not self._begun:
            found = _register(self._cloud, api, medium)
        self._begun = True
        if found is None:
            raise SampleError(f"{medium.name} was deleted")
        self._found = found
        if _failed(found):
            raise SampleError(f"{medium.name}: {found.get('status')}", str(found.get("hint") or ""))
        return Look(
            str(found.get("hint") or found["status"]),
            result=found if found["isready"] else None,
            percent=_percent(found),
            progress=(found.get("status"), found.get("hint"), _percent(found)),
        )

    def explain(self) -> str:
        lines = list(explanation.of_template(self._found)) if self._found else []
        return "\n".join([*lines, self._cloud.why("secondarystoragevm")])


class MachineSample:
    """A machine made from a template that is Ready, or an earlier run's started again."""

    title = f"machine {MACHINE_NAME} (a linked clone)"
    retry = f"vm deploy {MACHINE_NAME} --template {TINY.name}"

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._job: tuple[str, str] | None = None  # command, id
        self._said = ""

    def look(self) -> Look[dict[str, Any]]:
        api = self._cloud.api
        template = _find(api, TINY)
        machines = api.items("listVirtualMachines", "virtualmachine", name=MACHINE_NAME)
        machine = next((each for each in machines if each["state"] not in _GONE), None)
        state = str(machine["state"]) if machine is not None else "none yet"
        self._said = f"{MACHINE_NAME} is {state}"
        if machine is not None and state == "Running":
            return Look("", result=machine)
        if self._job is not None:
            api.job_result(*self._job)
        elif template is None or not template["isready"]:
            self._said = f"template {TINY.name} is not Ready"
            return Look(f"template {TINY.name}")
        elif machine is None:
            [offering] = api.items("listServiceOfferings", "serviceoffering", name="tiny")
            self._begin(
                "deployVirtualMachine", name=MACHINE_NAME, zoneid=template["zoneid"],
                templateid=template["id"], serviceofferingid=offering["id"],
            )  # fmt: skip
        elif state == "Stopped":
            self._begin("startVirtualMachine", id=machine["id"])
        return Look("its disk and its start", progress=state)

    def _begin(self, command: str, **parameters: object) -> None:
        self._job = command, str(self._cloud.api.call(command, **parameters)["jobid"])

    def explain(self) -> str:
        return f"{self._said}; see {self._cloud.daemon_log}"


class Showcase:
    """The samples of one cloud: those that have come, and those that are missing and may come later."""

    def __init__(self, cloud: Cloud, reporter: Reporter, late_s: float = LATE_S) -> None:
        self._cloud = cloud
        self._reporter = reporter
        self._late_s = late_s
        self._samples: list[Sample] = [
            MediumSample(cloud, IPXE), MediumSample(cloud, TINY), MachineSample(cloud)
        ]  # fmt: skip
        self.missing: dict[str, str] = {}  # title: why
        self.retry: dict[str, str] = {sample.title: sample.retry for sample in self._samples}

    def present(self) -> None:
        """Make each in turn; one that fails, or does not move for so long, is left for later."""
        for sample in self._samples:
            try:
                with self._reporter.step(sample.title) as shown:
                    self._cloud.wait(sample.look, sample.explain, shown, late_s=self._late_s)
            except EndedError:
                raise  # the daemon: nothing can come any more
            except LabError as error:
                self.missing[sample.title] = str(error)

    def look_again(self) -> None:
        """Report what was missing and has come since."""
        for sample in self._samples:
            if sample.title not in self.missing:
                continue
            # what has failed has been told; the daemon may be busy, or on its way back
            with suppress(LabError, OSError):
                if sample.look().result is not None:
                    del self.missing[sample.title]
                    self._reporter.say(f"{sample.title} has come")


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
    # a second try under the same name is as good as the first
    return min(found, key=lambda each: not each["isready"], default=None)


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
