# SPDX-License-Identifier: Apache-2.0
"""The operator's command against FakeDaemon, which answers as the daemon's socket does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from systemvm.cli import daemon_client as cli_daemon
from systemvm.cli.__main__ import main
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.http.unix_client import unix_call

SYSTEM_VMS = {
    "systemvm": [
        {
            "id": "u-1", "name": "s-1-VM", "systemvmtype": "secondarystoragevm", "state": "Running",
            "agentstate": "Alert", "linklocalip": "169.254.3.4", "publicip": "203.0.113.100",
            "reason": "It did not boot.", "hint": "See its serial log.",
        }
    ]
}  # fmt: skip
READY = {"id": "t-1", "name": "tiny", "format": "QCOW2", "isready": True, "status": "Download Complete"}


class FakeDaemon:
    """Answers by method; a list is answered one by one, its last for ever; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, path: str, method: str, params: dict[str, Any], timeout_s: float = 30) -> Any:
        self.calls.append((method, params))
        answer = self.answers[method.replace(".", "_")]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def invoke(fake: Callable[..., Any], *words: str) -> Result:
        monkeypatch.setattr(cli_daemon, "unix_call", fake)
        monkeypatch.setattr(cli_daemon.time, "sleep", lambda _: None)
        return CliRunner().invoke(main, ["--root", "/nowhere", *words])

    return invoke


def test_a_system_vm_that_is_not_up_says_why(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listSystemVms=SYSTEM_VMS), "system-vm", "list")
    assert result.exit_code == 0
    assert "Alert" in result.output
    assert "s-1-VM: It did not boot.\n  hint: See its serial log.\n" in result.output


def test_a_table_in_a_pipe_is_not_cut(run: Callable[..., Result]) -> None:
    [row] = SYSTEM_VMS["systemvm"]
    wide = {"systemvm": [row | {"name": "s-1-VM" * 30, "version": "0.1.0+" + "f" * 60}]}
    result = run(FakeDaemon(listSystemVms=wide), "system-vm", "list")
    assert "s-1-VM" * 30 in result.output
    assert "f" * 60 in result.output


def test_why_tells_what_happened_lately(run: Callable[..., Result]) -> None:
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
    fake = FakeDaemon(system_vm_why=answer, listSystemVms=SYSTEM_VMS, listEvents={"event": newest_first})
    lines = run(fake, "system-vm", "why", "s-1-VM").output.splitlines()
    lately = lines[lines.index("lately:") + 1 :]
    assert ["is stopped" in lately[0], "rebooted" in lately[1]] == [True, True]
    assert ("listEvents", {"resourceid": "u-1", "page": "1", "pagesize": "8"}) in fake.calls


def test_json_is_the_api_record(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listSystemVms=SYSTEM_VMS), "--json", "system-vm", "list")
    assert json.loads(result.output) == SYSTEM_VMS["systemvm"]


def test_register_follows_to_ready(run: Callable[..., Result]) -> None:
    moving = {**READY, "isready": False, "status": "41% Downloaded"}
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        registerTemplate={"template": [moving]},
        listTemplates=[{"template": [moving]}, {"template": [READY]}],
    )
    result = run(fake, "template", "register", "tiny", "https://images.example.test/tiny.qcow2")
    assert result.exit_code == 0, result.output
    assert "tiny is Ready" in result.output
    assert ("registerTemplate", {
        "name": "tiny", "displaytext": "tiny", "zoneid": "z-1", "format": "QCOW2", "hypervisor": "KVM",
        "url": "https://images.example.test/tiny.qcow2",
    }) in fake.calls  # fmt: skip


def test_register_that_fails_tells_the_status(run: Callable[..., Result]) -> None:
    failed = {
        **READY,
        "isready": False,
        "status": "The server answered 404 Not Found.",
        "hint": "Check the URL.",
    }
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        registerTemplate={"template": [failed]},
        listTemplates={"template": [failed]},
    )
    result = run(fake, "template", "register", "tiny", "https://images.example.test/none")
    assert result.exit_code == 1
    assert "404" in result.output
    assert "hint:  Check the URL." in result.output


def test_retry_follows_to_ready(run: Callable[..., Result]) -> None:
    failed = {**READY, "isready": False, "status": "the connection ended after 5 bytes"}
    moving = {**READY, "isready": False, "status": "41% Downloaded"}
    fake = FakeDaemon(
        retryTemplate={"template": [moving]},
        listTemplates=[{"template": rows} for rows in ([failed], [failed], [moving], [READY])],
    )
    result = run(fake, "template", "retry", "tiny")
    assert result.exit_code == 0, result.output
    assert "tiny is Ready" in result.output
    assert ("retryTemplate", {"id": READY["id"]}) in fake.calls


def test_retry_of_what_there_is_not(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listIsos={}), "iso", "retry", "tiny")
    assert result.exit_code == 1
    assert "no ISO is called 'tiny'" in result.output


def test_the_daemons_refusal_is_shown_with_its_hint(run: Callable[..., Result]) -> None:
    refusal = RpcError(-32010, "s-9-VM is not known", {"hint": "There is s-1-VM."})
    result = run(FakeDaemon(system_vm_check=refusal), "check", "s-9-VM")
    assert result.exit_code == 1
    assert "error: s-9-VM is not known" in result.output
    assert "hint:  There is s-1-VM." in result.output


def test_no_daemon_is_its_own_exit_code(run: Callable[..., Result]) -> None:
    # the socket's own client, and nobody at its other end
    result = run(unix_call, "system-vm", "list")
    assert result.exit_code == 3
    assert "nothing answers at /nowhere/run/systemvm/managementd.sock" in result.output
    assert "Is it running?" in result.output


def test_check_with_an_error_ends_with_4(run: Callable[..., Result]) -> None:
    report = {"steps": [
        {"name": "dns", "status": "good", "text": "Good: Can ping DNS server", "hint": ""},
        {"name": "nfs", "status": "error", "text": "ERROR: Cannot write", "hint": "Use no_root_squash"},
    ]}  # fmt: skip
    result = run(FakeDaemon(system_vm_check=report), "check", "s-1-VM")
    assert result.exit_code == 4
    assert "no_root_squash" in result.output


def test_a_failed_job_tells_its_text(run: Callable[..., Result]) -> None:
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


def test_an_unknown_name_lists_what_there_is(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listSystemVms=SYSTEM_VMS), "system-vm", "stop", "s-7-VM")
    assert result.exit_code == 1
    assert "There is: s-1-VM" in result.output


@pytest.mark.parametrize("words", [("call", "s-1-VM", "ping"), ("daemon", "listZones")])
@pytest.mark.parametrize(("params", "said"), [("{nope", "not JSON"), ("[1]", "no JSON object")])
def test_rpc_params_must_be_a_json_object(
    run: Callable[..., Result], words: tuple[str, ...], params: str, said: str
) -> None:
    result = run(FakeDaemon(), "rpc", *words, params)
    assert result.exit_code == 2
    assert said in result.output


def test_a_cloud_without_a_zone_says_so(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listZones={}), "iso", "register", "one", "https://images.example.test/one.iso")
    assert result.exit_code == 1
    assert "the cloud has no zone" in result.output


def test_a_registration_that_waits_says_what_for(run: Callable[..., Result]) -> None:
    waiting = {
        **READY,
        "isready": False,
        "status": "0% Downloaded",
        "hint": "Waiting for s-1-VM to connect again",
    }
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        registerTemplate={"template": [waiting]},
        listTemplates=[{"template": [waiting]}, {"template": [waiting]}, RpcError(-1, "enough")],
    )
    result = run(fake, "template", "register", "tiny", "https://images.example.test/tiny.qcow2")
    assert "Waiting for s-1-VM" in " ".join(result.output.split())


@pytest.mark.parametrize(
    "words", [(), ("template",), ("vm",), ("system-vm",), ("rpc",), ("ssh",), ("console",)]
)
def test_help_teaches(run: Callable[..., Result], words: tuple[str, ...]) -> None:
    result = run(FakeDaemon(), *words, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_every_users_machine_is_listed_and_found(run: Callable[..., Result]) -> None:
    machine = {"id": "m-1", "name": "web", "instancename": "i-2-3-VM", "state": "Stopped", "isoname": "ipxe"}
    fake = FakeDaemon(
        listVirtualMachines={"virtualmachine": [machine | {"reason": "It ended.", "hint": "Start it."}]},
        destroyVirtualMachine={"jobid": "j-1"},
        recoverVirtualMachine={"virtualmachine": machine},
        expungeVirtualMachine={"jobid": "j-1"},
        rebootVirtualMachine={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {}},
    )
    listed = run(fake, "vm", "list")
    assert "i-2-3-VM" in listed.output
    assert "web: It ended.\n  hint: Start it." in listed.output
    assert run(fake, "vm", "destroy", "--yes", "web").output == "web is destroyed.\n"
    assert fake.calls == [
        ("listVirtualMachines", {"listall": "true"}),
        ("listVirtualMachines", {"listall": "true"}),
        ("destroyVirtualMachine", {"id": "m-1", "expunge": "false"}),
        ("queryAsyncJobResult", {"jobid": "j-1"}),
    ]
    assert "recovered" in run(fake, "vm", "recover", "web").output
    assert run(fake, "vm", "expunge", "--yes", "web").output == "web is expunged.\n"
    assert "expunged" in run(fake, "vm", "destroy", "--yes", "--expunge", "web").output
    assert run(fake, "vm", "reboot", "web").output == "web is Running.\n"
    acted = [call for call in fake.calls if call[0] not in ("listVirtualMachines", "queryAsyncJobResult")]
    assert acted[1:] == [
        ("recoverVirtualMachine", {"id": "m-1"}),
        ("expungeVirtualMachine", {"id": "m-1"}),
        ("destroyVirtualMachine", {"id": "m-1", "expunge": "true"}),
        ("rebootVirtualMachine", {"id": "m-1", "forced": "false"}),
    ]


def test_why_tells_the_first_line_before_the_examination_has_ended(run: Callable[..., Result]) -> None:
    first = {
        "name": "s-1-VM", "state": "Running", "agentstate": "Alert",
        "reason": "Its agent is silent", "hint": "",
        "looked_at": [{"what": "hypervisor", "said": "running"}], "pending": "its guest agent",
    }  # fmt: skip
    last = first | {
        "reason": "Its agent is busy: load 9.0", "pending": "",
        "looked_at": [*first["looked_at"], {"what": "load inside", "said": "9.00 8.00"}],
    }  # fmt: skip
    fake = FakeDaemon(system_vm_why=[first, last], listSystemVms=SYSTEM_VMS, listEvents={})
    lines = run(fake, "system-vm", "why", "s-1-VM").output.splitlines()
    order = [
        "reason: Its agent is silent",
        "hypervisor:",
        "still looking at its guest agent …",
        "load inside:",
        "reason: Its agent is busy: load 9.0",
    ]
    assert [line for line in lines if line in order] == order
    as_json = FakeDaemon(system_vm_why=[first, last])
    assert json.loads(run(as_json, "--json", "system-vm", "why", "s-1-VM").output) == last
