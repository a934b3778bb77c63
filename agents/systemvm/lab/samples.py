# SPDX-License-Identifier: Apache-2.0
"""The samples of `make run`: a template and an ISO that are registered and downloaded, and a running VM."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from systemvm.lab import diagnosis, guest_image
from systemvm.lab.api_client import ApiClient
from systemvm.lab.cloud import Cloud
from systemvm.lab.errors import LabError
from systemvm.lab.plan import LabPlan
from systemvm.lab.reporting import Reporter
from systemvm.lab.waiting import EndedError, WaitState

IPXE_ISO = Path("/usr/lib/ipxe/ipxe.iso")
MACHINE_NAME = "hello"

#: Without progress for so long a sample is no longer waited for: the cloud is usable without it.
LATE_S = 180.0
_GONE = ("Destroyed", "Expunging", "Error")


@frozen
class Media:
    """A template or ISO to register."""

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


TINY = Media("Template", "tiny", "Debian's kernel and busybox, with a shell on its screen", "tiny.qcow2")
IPXE = Media("Iso", "ipxe", "the iPXE boot firmware", "ipxe.iso")


def publish(plan: LabPlan) -> None:
    """Copy the media into the web server's root.

    Raises: LabError when the template's image cannot be built.
    """
    plan.source_pages.mkdir(parents=True, exist_ok=True)
    for source, name in ((guest_image.build(plan.build), TINY.file), (IPXE_ISO, IPXE.file)):
        target = plan.source_pages / name
        if not target.exists() or _sha256(target) != _sha256(source):
            shutil.copyfile(source, target)


class SampleError(LabError):
    """The download or deployment of a sample failed."""


class Sample(Protocol):
    """A sample; each `look` checks it and takes the next step."""

    title: str
    #: The arguments of `systemvm` by which an operator creates it after a failure.
    retry: str

    def look(self) -> WaitState[dict[str, Any]]:
        """Check the sample and take its next step.

        Raises: SampleError or ApiRefusedError when it failed, OSError when the API does not answer.
        """

    def explain(self) -> str: ...


class MediaSample:
    """A medium that is registered, unless an earlier run did so, until it is Ready."""

    def __init__(self, cloud: Cloud, medium: Media) -> None:
        self._cloud = cloud
        self._medium = medium
        self._begun = False
        self._found: dict[str, Any] | None = None
        self.title = f"{medium.noun.lower()} {medium.name}"
        self.retry = f"{medium.object_name} register {medium.name} {cloud.plan.source_url}/{medium.file}"

    def look(self) -> WaitState[dict[str, Any]]:
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
        return WaitState(
            str(found.get("hint") or found["status"]),
            result=found if found["isready"] else None,
            percent=_percent(found),
            progress=(found.get("status"), found.get("hint"), _percent(found)),
        )

    def explain(self) -> str:
        lines = list(diagnosis.of_template(self._found)) if self._found else []
        return "\n".join([*lines, self._cloud.why("secondarystoragevm")])


class VmSample:
    """A VM that is deployed from a Ready template, or started if an earlier run deployed it."""

    title = f"VM {MACHINE_NAME} (a linked clone)"
    retry = f"vm deploy {MACHINE_NAME} --template {TINY.name}"

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._job: tuple[str, str] | None = None  # command, id
        self._status = ""

    def look(self) -> WaitState[dict[str, Any]]:
        api = self._cloud.api
        template = _find(api, TINY)
        machines = api.items("listVirtualMachines", "virtualmachine", name=MACHINE_NAME)
        machine = next((each for each in machines if each["state"] not in _GONE), None)
        state = str(machine["state"]) if machine is not None else "not deployed"
        self._status = f"{MACHINE_NAME} is {state}"
        if machine is not None and state == "Running":
            return WaitState("", result=machine)
        if self._job is not None:
            api.job_result(*self._job)
        elif template is None or not template["isready"]:
            self._status = f"template {TINY.name} is not Ready"
            return WaitState(f"template {TINY.name}")
        elif machine is None:
            [offering] = api.items("listServiceOfferings", "serviceoffering", name="tiny")
            self._begin(
                "deployVirtualMachine", name=MACHINE_NAME, zoneid=template["zoneid"],
                templateid=template["id"], serviceofferingid=offering["id"],
            )  # fmt: skip
        elif state == "Stopped":
            self._begin("startVirtualMachine", id=machine["id"])
        return WaitState("its disk and its start", progress=state)

    def _begin(self, command: str, **parameters: object) -> None:
        self._job = command, str(self._cloud.api.call(command, **parameters)["jobid"])

    def explain(self) -> str:
        return f"{self._status}; see {self._cloud.daemon_log}"


class SampleSet:
    """The samples of one cloud; missing ones can appear later."""

    def __init__(self, cloud: Cloud, reporter: Reporter, late_s: float = LATE_S) -> None:
        self._cloud = cloud
        self._reporter = reporter
        self._late_s = late_s
        self._samples: list[Sample] = [
            MediaSample(cloud, IPXE), MediaSample(cloud, TINY), VmSample(cloud)
        ]  # fmt: skip
        self.missing: dict[str, str] = {}  # title: why
        self.retry: dict[str, str] = {sample.title: sample.retry for sample in self._samples}

    def create_all(self) -> None:
        """Create one after another; one that fails or makes no progress is put into `missing`.

        Raises: EndedError when the daemon ends.
        """
        for sample in self._samples:
            try:
                with self._reporter.step(sample.title) as shown:
                    self._cloud.wait(sample.look, sample.explain, shown, late_s=self._late_s)
            except EndedError:
                raise  # the daemon ended: no sample can be created
            except LabError as error:
                self.missing[sample.title] = str(error)

    def check_missing(self) -> None:
        """Report missing samples that are now available."""
        for sample in self._samples:
            if sample.title not in self.missing:
                continue
            # the failure was already reported; the daemon can be busy or restarting
            with suppress(LabError, OSError):
                if sample.look().result is not None:
                    del self.missing[sample.title]
                    self._reporter.print_line(f"{sample.title} is available now")


def _register(cloud: Cloud, api: ApiClient, medium: Media) -> dict[str, Any]:
    [zone] = api.items("listZones", "zone")
    of_tiny = {"format": "QCOW2", "hypervisor": "KVM", "passwordenabled": True}
    more = of_tiny if medium is TINY else {"bootable": True}
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


def _find(api: ApiClient, medium: Media) -> dict[str, Any] | None:
    found = api.items(f"list{medium.noun}s", medium.object_name, name=medium.name, **medium.filter)
    # a second attempt under the same name counts, too
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
