# SPDX-License-Identifier: Apache-2.0
"""The sample VM: deployed once its template is Ready, and not again after a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from systemvm.lab.api_client import ApiRefusedError
from systemvm.lab.reporting import NullReporter
from systemvm.lab.samples import SampleSet, VmSample
from systemvm.lab.waiting import EndedError, WaitState

READY = {"id": "t", "name": "tiny", "zoneid": "z", "isready": True, "status": "Download Complete"}


class FakeApi:
    """An API that returns the lists of a test and records the commands."""

    def __init__(self) -> None:
        self.templates: list[dict[str, Any]] = []
        self.machines: list[dict[str, Any]] = []
        self.commands: list[str] = []
        self.job_error = ""

    def items(self, command: str, kind: str, /, **parameters: object) -> list[dict[str, Any]]:
        return {
            "listTemplates": self.templates, "listVirtualMachines": self.machines, "listIsos": [READY],
            "listServiceOfferings": [{"id": "o"}],
        }[command]  # fmt: skip

    def call(self, command: str, /, **parameters: object) -> dict[str, Any]:
        self.commands.append(command)
        return {"jobid": "j"}

    def job_result(self, command: str, job: str) -> dict[str, Any] | None:
        if self.job_error:
            raise ApiRefusedError(command, 530, self.job_error)
        return None


class FakePlan:
    source_url = "https://images.example.test"


class FakeCloud:
    plan = FakePlan()
    daemon_log = Path("managementd.log")

    def __init__(self) -> None:
        self.api = FakeApi()
        self.daemon_ended = False

    def wait(
        self, look: Callable[[], WaitState[Any]], explain: Callable[[], str], step: Any, *, late_s: float
    ) -> Any:
        """Look three times."""
        for _ in range(3):
            if self.daemon_ended:
                raise EndedError("the daemon ended")
            found = look()
        return found.result


@pytest.fixture
def cloud() -> Any:
    return FakeCloud()


def test_a_sample_waits_for_its_template_and_is_deployed_once(cloud: Any) -> None:
    sample = VmSample(cloud)
    assert sample.look().detail == "template tiny"
    cloud.api.templates = [READY | {"isready": False}]
    assert sample.look().result is None
    assert cloud.api.commands == []
    cloud.api.templates = [READY]
    for state in ("Starting", "Starting", "Running"):
        found = sample.look()
        cloud.api.machines = [{"id": "m", "name": "hello", "state": state}]
        assert found.result is None
    assert sample.look().result == {"id": "m", "name": "hello", "state": "Running"}
    assert cloud.api.commands == ["deployVirtualMachine"]


@pytest.mark.parametrize(
    ("state", "command"),
    [("Stopped", ["startVirtualMachine"]), ("Starting", []), ("Destroyed", ["deployVirtualMachine"])],
)
def test_a_vm_of_an_earlier_run_is_started(cloud: Any, state: str, command: list[str]) -> None:
    cloud.api.templates = [READY]
    cloud.api.machines = [{"id": "m", "name": "hello", "state": state}]
    assert VmSample(cloud).look().result is None
    assert cloud.api.commands == command


def test_a_failure_is_reported_once_with_its_reason(cloud: Any) -> None:
    cloud.api.templates = [READY]
    cloud.api.job_error = "no memory is left"
    samples = SampleSet(cloud, NullReporter())
    samples.create_all()
    assert list(samples.missing) == ["VM hello (a linked clone)"]
    assert "no memory is left" in samples.missing["VM hello (a linked clone)"]
    for _ in range(3):
        samples.check_missing()
    assert cloud.api.commands == ["deployVirtualMachine"]
    cloud.api.machines = [{"id": "m", "name": "hello", "state": "Running"}]  # the operator's
    samples.check_missing()
    assert samples.missing == {}


def test_the_daemons_end_is_an_error(cloud: Any) -> None:
    cloud.daemon_ended = True
    with pytest.raises(EndedError):
        SampleSet(cloud, NullReporter()).create_all()
