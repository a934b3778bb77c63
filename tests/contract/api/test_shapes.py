# SPDX-License-Identifier: Apache-2.0
"""Shapes of API responses, compared with golden files, because CloudStack's clients depend on every key.

`UPDATE_GOLDENS=1 pytest tests/contract/api` writes the files; review the difference.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api import envelope
from systemvm.management.api.discovery import describe
from systemvm.management.api.errors import ApiError, ErrorCode
from systemvm.management.state.status import InstanceType
from systemvm.wire.storage import DownloadState, ImageFormat
from template_uploads import receive_uploads, upload_parameters

GOLDENS = Path(__file__).with_name("goldens")
_CHANGING = [
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\+0000|\.\d{3}Z)"), "<time>"),
    (re.compile(r"02(:[0-9a-f]{2}){5}"), "<mac>"),
    (re.compile(r"(?<![\w-])[A-Za-z0-9_-]{43}(?![\w-])"), "<token>"),
]


def normalize(value: Any) -> Any:
    """Replace values that differ between runs with a placeholder."""
    if isinstance(value, dict):
        return {key: normalize(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normalize(item) for item in value]
    if isinstance(value, str):
        for pattern, name in _CHANGING:
            value = pattern.sub(name, value)
    return value


def check_golden(name: str, document: dict[str, Any]) -> None:
    path = GOLDENS / f"{name}.json"
    text = (
        json.dumps(normalize(json.loads(envelope.write(document, "json"))), indent=2, ensure_ascii=False)
        + "\n"
    )
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs from the response"


async def answer(cloud: SmallCloud, command: str, **parameters: Any) -> dict[str, Any]:
    found = cloud.table.find(command)
    result = await found.run(cloud.admin, parameters, "192.0.2.1", "request-1")
    return envelope.answer(found, result)


async def machine(cloud: SmallCloud) -> dict[str, Any]:
    template, _ = cloud.add_template()
    offerings = await cloud.call("listServiceOfferings", name="small")
    return {
        "zoneid": cloud.zone.uuid,
        "templateid": template.uuid,
        "serviceofferingid": offerings["serviceoffering"][0]["id"],
        "name": "one",
    }


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        ("listZones", {}),
        ("listHosts", {}),
        ("listServiceOfferings", {}),
        ("listSystemVms", {}),
        ("listVirtualMachines", {}),
        ("listApis", {"name": "deleteTemplate"}),
        ("listApis", {"name": "createConsoleEndpoint"}),
    ],
)
async def test_list_responses_match(cloud: SmallCloud, command: str, parameters: dict[str, str]) -> None:
    check_golden("-".join([command, *parameters.values()]), await answer(cloud, command, **parameters))


@pytest_twisted.ensureDeferred
async def test_registration_matches(cloud: SmallCloud) -> None:
    registered = await answer(
        cloud,
        "registerTemplate",
        name="tiny",
        url="https://images.example.test/tiny.qcow2",
        format="QCOW2",
        hypervisor="KVM",
        zoneid=cloud.zone.uuid,
    )
    check_golden("registerTemplate", registered)


@pytest_twisted.ensureDeferred
async def test_templates_and_isos_in_every_state_match(cloud: SmallCloud) -> None:
    for state in DownloadState:
        cloud.add_template(state=state, name=f"template {state.value}")
        cloud.add_template(state=state, name=f"ISO {state.value}", format=ImageFormat.ISO)
    check_golden("listTemplates", await answer(cloud, "listTemplates", templatefilter="all"))
    check_golden("listIsos", await answer(cloud, "listIsos", isofilter="all"))


@pytest_twisted.ensureDeferred
async def test_deployment_job_vm_and_console_match(cloud: SmallCloud) -> None:
    started = await answer(cloud, "deployVirtualMachine", **await machine(cloud))
    check_golden("deployVirtualMachine", started)
    body = started["deployvirtualmachineresponse"]
    await cloud.jobs.wait(body["jobid"])
    check_golden("queryAsyncJobResult", await answer(cloud, "queryAsyncJobResult", jobid=body["jobid"]))
    check_golden("listVirtualMachines-one", await answer(cloud, "listVirtualMachines"))
    check_golden(
        "createConsoleEndpoint", await answer(cloud, "createConsoleEndpoint", virtualmachineid=body["id"])
    )
    cloud.agents.disconnect(cloud.cpvm.instance_name)
    check_golden(
        "createConsoleEndpoint-none",
        await answer(cloud, "createConsoleEndpoint", virtualmachineid=body["id"]),
    )


@pytest_twisted.ensureDeferred
async def test_failed_job_matches(cloud: SmallCloud) -> None:
    cloud.primary.fails_with = OSError("x")
    values = await machine(cloud)
    cloud.agents.disconnect("s-1-VM")
    job = await cloud.job("stopSystemVm", id=cloud.ssvm.uuid, forced="true")
    check_golden(
        "queryAsyncJobResult-stopSystemVm", await answer(cloud, "queryAsyncJobResult", jobid=job.uuid)
    )
    job = await cloud.job("deployVirtualMachine", **values)
    failed = await answer(cloud, "queryAsyncJobResult", jobid=job.uuid)
    failed["queryasyncjobresultresponse"]["jobresult"]["errortext"] = "…"
    check_golden("queryAsyncJobResult-failed", failed)


def test_errors_of_known_and_unknown_commands_match(cloud: SmallCloud) -> None:
    error = ApiError(ErrorCode.PARAMETER, "the text", "what to do")
    check_golden("error", envelope.error_answer(cloud.table.find("listZones"), error))
    check_golden("error-unknown", envelope.error_answer(None, error))


def test_error_codes_are_those_of_cloudstack() -> None:
    assert {code.name: int(code) for code in ErrorCode} == {
        "MALFORMED_REQUEST": 400,
        "UNAUTHORIZED": 401,
        "METHOD_NOT_ALLOWED": 405,
        "RATE_LIMITED": 429,
        "MALFORMED_PARAMETER": 430,
        "PARAMETER": 431,
        "UNSUPPORTED": 432,
        "BUSY": 503,
        "SECOND_FACTOR": 511,
        "INTERNAL": 530,
        "ACCOUNT": 531,
        "ACCOUNT_LIMIT": 532,
        "INSUFFICIENT_CAPACITY": 533,
        "RESOURCE_UNAVAILABLE": 534,
        "RESOURCE_ALLOCATION": 535,
        "RESOURCE_IN_USE": 536,
    }


def test_every_key_of_a_list_is_described(cloud: SmallCloud) -> None:
    """listApis and the responses are generated from the same table."""
    for command in cloud.table:
        described = describe(command)
        assert all(key.description for key in described.response), command.name
        assert all(parameter.description for parameter in described.params), command.name


@pytest_twisted.ensureDeferred
async def test_xml_has_the_same_content(cloud: SmallCloud) -> None:
    cloud.add_system_vm(InstanceType.CONSOLE_PROXY)
    document = await answer(cloud, "listSystemVms", systemvmtype="consoleproxy")
    text = envelope.write(document, "xml").decode()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?><listsystemvmsresponse><count>2</count>')
    assert text.count("<systemvm>") == text.count("</systemvm>") == 2
    assert "<isdynamicallyscalable>false</isdynamicallyscalable>" in text


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["Template", "Iso", "Volume"])
async def test_parameters_of_an_upload_match(cloud: SmallCloud, kind: str) -> None:
    receive_uploads(cloud)
    document = await answer(cloud, f"getUploadParamsFor{kind}", **upload_parameters(cloud, kind))
    params = document[f"postupload{kind.lower()}response"]["getuploadparams"]
    for key in ("metadata", "signature"):
        params[key] = f"<{key}>"
    check_golden(f"getUploadParamsFor{kind}", document)
