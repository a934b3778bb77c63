# SPDX-License-Identifier: Apache-2.0
"""Errors of calls, jobs and lookups, as every command prints them."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from fake_daemon import FakeDaemon
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
