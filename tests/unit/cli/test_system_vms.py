# SPDX-License-Identifier: Apache-2.0
"""`systemvm system-vm`, `check` and `rpc`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.rpc.core.errors import RpcError

SYSTEM_VMS = {
    "systemvm": [
        {
            "id": "u-1", "name": "s-1-VM", "systemvmtype": "secondarystoragevm", "state": "Running",
            "agentstate": "Alert", "linklocalip": "169.254.3.4", "publicip": "203.0.113.100",
            "reason": "It did not boot.", "hint": "See its serial log.",
        }
    ]
}  # fmt: skip


def test_reason_and_hint_are_printed_below_the_list(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listSystemVms=SYSTEM_VMS), "system-vm", "list")
    assert result.exit_code == 0
    assert "Alert" in result.output
    assert "s-1-VM: It did not boot.\n  hint: See its serial log.\n" in result.output


def test_the_address_is_that_of_management_without_a_public_network(run: Callable[..., Result]) -> None:
    [row] = SYSTEM_VMS["systemvm"]
    both = row | {"privateip": "10.11.0.100"}
    inside = {**both, "name": "s-2-VM", "privateip": "10.11.0.101"}
    del inside["publicip"]
    result = run(FakeDaemon(listSystemVms={"systemvm": [both, inside]}), "system-vm", "list")
    of_name = {line.split()[0]: line for line in result.output.splitlines() if "-VM" in line.split()[0]}
    assert "203.0.113.100" in of_name["s-1-VM"]
    assert "10.11.0.100" not in of_name["s-1-VM"]
    assert "10.11.0.101" in of_name["s-2-VM"]


def test_table_in_a_pipe_is_not_cut(run: Callable[..., Result]) -> None:
    [row] = SYSTEM_VMS["systemvm"]
    wide = {"systemvm": [row | {"name": "s-1-VM" * 30, "version": "0.1.0+" + "f" * 60}]}
    result = run(FakeDaemon(listSystemVms=wide), "system-vm", "list")
    assert "s-1-VM" * 30 in result.output
    assert "f" * 60 in result.output


def test_json_is_the_row_of_the_api(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listSystemVms=SYSTEM_VMS), "--json", "system-vm", "list")
    assert json.loads(result.output) == SYSTEM_VMS["systemvm"]


def test_why_prints_recent_events(run: Callable[..., Result]) -> None:
    answer = {
        "name": "s-1-VM", "state": "Running", "agentstate": "Up", "reason": "", "hint": "",
        "looked_at": [{"what": "hypervisor", "said": "running"}],
    }  # fmt: skip
    newest_first = [
        {"createdms": 1_700_000_060_000, "type": "SSVM.REBOOT", "description": "s-1-VM rebooted"},
        {
            "createdms": 1_700_000_000_000,
            "type": "AGENT.ALERT",
            "description": "the agent of s-1-VM is stopped",
        },
    ]
    fake = FakeDaemon(system_vm__why=answer, listSystemVms=SYSTEM_VMS, listEvents={"event": newest_first})
    lines = run(fake, "system-vm", "why", "s-1-VM").output.splitlines()
    recent = lines[lines.index("recent events:") + 1 :]
    assert ["is stopped" in recent[0], "rebooted" in recent[1]] == [True, True]
    assert ("listEvents", {"resourceid": "u-1", "page": "1", "pagesize": "8"}) in fake.calls


def test_why_prints_the_first_reason_before_the_examination_has_ended(run: Callable[..., Result]) -> None:
    first = {
        "name": "s-1-VM", "state": "Running", "agentstate": "Alert",
        "reason": "Its agent is silent", "hint": "",
        "looked_at": [{"what": "hypervisor", "said": "running"}], "pending": "its guest agent",
    }  # fmt: skip
    last = first | {
        "reason": "Its agent is busy: load 9.0", "pending": "",
        "looked_at": [*first["looked_at"], {"what": "load inside", "said": "9.00 8.00"}],
    }  # fmt: skip
    fake = FakeDaemon(system_vm__why=[first, last], listSystemVms=SYSTEM_VMS, listEvents={})
    lines = run(fake, "system-vm", "why", "s-1-VM").output.splitlines()
    order = [
        "reason: Its agent is silent",
        "hypervisor:",
        "still examining its guest agent …",
        "load inside:",
        "reason: Its agent is busy: load 9.0",
    ]
    assert [line for line in lines if line in order] == order
    as_json = FakeDaemon(system_vm__why=[first, last])
    assert json.loads(run(as_json, "--json", "system-vm", "why", "s-1-VM").output) == last


def test_check_that_found_an_error_exits_with_4(run: Callable[..., Result]) -> None:
    report = {"steps": [
        {"name": "dns", "status": "good", "text": "Good: Can ping DNS server", "hint": ""},
        {"name": "nfs", "status": "error", "text": "ERROR: Cannot write", "hint": "Use no_root_squash"},
    ]}  # fmt: skip
    result = run(FakeDaemon(system_vm__check=report), "check", "s-1-VM")
    assert result.exit_code == 4
    assert "no_root_squash" in result.output


def test_error_of_the_daemon_is_printed_with_its_hint(run: Callable[..., Result]) -> None:
    refusal = RpcError(-32010, "s-9-VM is not known", {"hint": "There is s-1-VM."})
    result = run(FakeDaemon(system_vm__check=refusal), "check", "s-9-VM")
    assert result.exit_code == 1
    assert "error: s-9-VM is not known" in result.output
    assert "hint:  There is s-1-VM." in result.output


@pytest.mark.parametrize("arguments", [("call", "s-1-VM", "ping"), ("daemon", "listZones")])
@pytest.mark.parametrize(("params", "message"), [("{nope", "not JSON"), ("[1]", "not a JSON object")])
def test_rpc_params_must_be_a_json_object(
    run: Callable[..., Result], arguments: tuple[str, ...], params: str, message: str
) -> None:
    result = run(FakeDaemon(), "rpc", *arguments, params)
    assert result.exit_code == 2
    assert message in result.output


def test_a_console_proxy_is_drained_alone_or_before_an_operation(run: Callable[..., Result]) -> None:
    proxy = {"id": "u-2", "name": "v-2-VM", "systemvmtype": "consoleproxy", "state": "Running"}
    rows = {"systemvm": [proxy | {"agentstate": "Up", "drainuntil": "2026-01-01T00:00:00+0000"}]}
    done = {"jobid": "j-1", "jobstatus": 1, "jobresult": {"displaytext": "runs"}}
    fake = FakeDaemon(
        listSystemVms=rows,
        drainConsoleProxy={"success": True, "displaytext": "v-2-VM takes no new session"},
        rebootSystemVm=done,
        destroySystemVm=done,
        queryAsyncJobResult=done,
    )
    assert "Up, drains" in run(fake, "system-vm", "list").output
    assert (
        run(fake, "system-vm", "drain", "v-2-VM", "--timeout", "60").output == "v-2-VM takes no new session\n"
    )
    run(fake, "system-vm", "drain", "v-2-VM", "--cancel")
    run(fake, "system-vm", "reboot", "v-2-VM", "--drain")
    run(fake, "system-vm", "reboot", "v-2-VM")
    run(fake, "system-vm", "destroy", "v-2-VM", "--drain", "--yes")
    assert [call for call in fake.calls if call[0] not in ("listSystemVms", "queryAsyncJobResult")] == [
        ("drainConsoleProxy", {"id": "u-2", "timeout": 60}),
        ("drainConsoleProxy", {"id": "u-2", "cancel": "true"}),
        ("rebootSystemVm", {"id": "u-2", "forced": "false", "drain": "true"}),
        ("rebootSystemVm", {"id": "u-2", "forced": "false"}),
        ("destroySystemVm", {"id": "u-2", "drain": "true"}),
    ]
