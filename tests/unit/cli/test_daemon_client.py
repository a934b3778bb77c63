# SPDX-License-Identifier: Apache-2.0
"""Errors of calls, jobs and lookups, as every command prints them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.operators import as_rpc_error
from systemvm.rpc.http.unix_client import unix_call

SYSTEM_VMS = {"systemvm": [{"id": "u-1", "name": "s-1-VM"}]}


def test_missing_daemon_has_an_exit_code_of_its_own(run: Callable[..., Result]) -> None:
    # the real client: no daemon listens on the socket
    result = run(unix_call, "system-vm", "list")
    assert result.exit_code == 3
    assert "nothing answers at /nowhere/run/systemvm/managementd.sock" in result.output
    assert "start the daemon" in result.output


def test_error_text_of_a_failed_job_is_printed(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listSystemVms=SYSTEM_VMS,
        stopSystemVm={"jobid": "j-1"},
        queryAsyncJobResult=[
            {"jobstatus": 0},
            {"jobstatus": 2, "jobresult": {"errorcode": 530, "errortext": "QEMU does not answer"}},
        ],
    )
    result = run(fake, "system-vm", "stop", "s-1-VM")
    assert result.exit_code == 1
    assert "QEMU does not answer" in result.output


def test_unknown_name_lists_the_choices(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listSystemVms=SYSTEM_VMS), "system-vm", "stop", "s-7-VM")
    assert result.exit_code == 1
    assert "choose one of these: s-1-VM" in result.output


def test_missing_zone_is_reported(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listZones={}), "iso", "register", "one", "https://images.example.test/one.iso")
    assert result.exit_code == 1
    assert "there is no zone" in result.output


@pytest.mark.parametrize(
    ("parameter", "arguments", "place"),
    [
        ("size", ("volume", "create", "data", "--size", "2"), "--size"),
        ("diskofferingid", ("volume", "create", "data", "--size", "2"), "--offering"),
        ("storageid", ("volume", "create", "data", "--size", "2"), "--pool"),
        ("name", ("volume", "create", "data", "--size", "2"), "NAME"),
        ("gateway", ("pod", "create", "pod1", "zone=zone1", "gateway=x"), "gateway="),
        ("zoneid", ("pod", "create", "pod1", "zone=zone1"), "zone="),
        ("name", ("pod", "create", "pod1", "zone=zone1"), "NAME"),
    ],
)
def test_a_refusal_names_the_option_of_the_value(
    run: Callable[..., Result], parameter: str, arguments: tuple[str, ...], place: str
) -> None:
    refusal = as_rpc_error(parameter_error(parameter, "it cannot be", "send another one"))
    zones = {"zone": [{"id": "z-1", "name": "zone1"}]}
    fake = FakeDaemon(listZones=zones, createVolume=refusal, createPod=refusal)
    result = run(fake, *arguments)
    assert result.exit_code == 1
    assert f"error: it cannot be\nin:    {place}\nhint:  send another one\n" in result.output


def test_a_job_that_is_refused_names_the_option_of_the_value(run: Callable[..., Result]) -> None:
    ended = {"errorcode": 431, "errortext": "it cannot be", "parameter": "size"}
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1", "name": "zone1"}]},
        createVolume={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 2, "jobresult": ended},
    )
    assert "error: it cannot be\nin:    --size\n" in run(fake, "volume", "create", "d", "--size", "2").output


def test_a_refusal_of_what_has_no_option_names_none(run: Callable[..., Result]) -> None:
    refusal = as_rpc_error(parameter_error("id", "it runs", "stop it"))
    fake = FakeDaemon(listSystemVms=SYSTEM_VMS, stopSystemVm=refusal)
    assert "error: it runs\nhint:  stop it\n" in run(fake, "system-vm", "stop", "s-1-VM").output
