# SPDX-License-Identifier: Apache-2.0
"""`systemvm system-vm`, `check` and `rpc`: the appliances themselves."""

from __future__ import annotations

import json
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.completion import complete_system_vm
from systemvm.cli.daemon_client import EXIT_CHECK_FAILED, Daemon, Failed
from systemvm.cli.machine_kind import MachineKind
from systemvm.service.slowness import scaled_s

#: Longer than the daemon waits for the system VM.
CHECK_S = 120.0
_LATELY = 8
_SHORT = {"secondarystoragevm": "SSVM", "consoleproxy": "CPVM"}

SYSTEM_VM = MachineKind("system VM", "listSystemVms", "systemvm")


@click.group("system-vm")
def system_vm() -> None:
    """The cloud's own appliances: SSVM and CPVM."""


@system_vm.command("list")
@click.pass_obj
def list_system_vms(daemon: Daemon) -> None:
    """System VMs with their state, and the reason when one is not Up."""
    SYSTEM_VM.show(
        daemon,
        ("NAME", "TYPE", "STATE", "AGENT", "CONTROL", "PUBLIC", "VERSION"),
        lambda row: (
            row["name"],
            _SHORT.get(row["systemvmtype"], row["systemvmtype"]),
            output.state(row["state"]),
            output.state(row.get("agentstate")),
            row.get("linklocalip"),
            row.get("publicip"),
            row.get("version"),
        ),
        "No system VM yet; the daemon makes them by itself.",
    )


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.pass_obj
def start(daemon: Daemon, name: str) -> None:
    """Start a stopped system VM."""
    SYSTEM_VM.act(daemon, "startSystemVm", name, "Running")


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.option("--forced", is_flag=True, help="Pull the plug instead of asking the guest.")
@click.pass_obj
def stop(daemon: Daemon, name: str, forced: bool) -> None:
    """Stop a system VM; the daemon starts it again when its zone needs one."""
    SYSTEM_VM.act(daemon, "stopSystemVm", name, "Stopped", forced=str(forced).lower())


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.option("--forced", is_flag=True, help="Pull the plug instead of asking the guest.")
@click.pass_obj
def reboot(daemon: Daemon, name: str, forced: bool) -> None:
    """Reboot a system VM; it keeps its addresses."""
    SYSTEM_VM.act(daemon, "rebootSystemVm", name, "Running", forced=str(forced).lower())


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.confirmation_option(prompt="Its consoles and downloads in progress are cut off. Go on?")
@click.pass_obj
def destroy(daemon: Daemon, name: str) -> None:
    """End a system VM for good; its zone makes another, with a new name, from the newest image."""
    SYSTEM_VM.act(daemon, "destroySystemVm", name, "destroyed; another takes its place")


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.option("--forced", is_flag=True, help="Also when it runs this daemon's agent already.")
@click.pass_obj
def patch(daemon: Daemon, name: str, forced: bool) -> None:
    """Give a running system VM this daemon's agent, without a new image and without a reboot.

    It is tried first: an agent that does not come Up is taken back, and the error says why.
    """
    result = daemon.job("patchSystemVm", id=SYSTEM_VM.find(daemon, name)["id"], forced=str(forced).lower())
    click.echo(result["displaytext"])


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.pass_obj
def why(daemon: Daemon, name: str) -> None:
    """Why a system VM is not Up: looks now, from inside if that can be, and says what to do."""
    answer = daemon.call("system_vm.why", name=name)
    if daemon.as_json:
        while answer.get("pending"):
            answer = daemon.call("system_vm.why", name=name)
        output.as_json(answer)
        return
    click.echo(f"{name} is {answer['state']}, its agent {answer['agentstate']}.")
    _tell_reason(answer)
    told, first, pending = 0, answer, ""
    while True:
        for look in answer["looked_at"][told:]:
            click.echo(f"\n{look['what']}:")
            for line in look["said"].splitlines():
                click.echo(f"  {line}")
        told = len(answer["looked_at"])
        if not answer.get("pending"):
            break
        if answer["pending"] != pending:
            pending = answer["pending"]
            click.echo(f"\nstill looking at {pending} …")
        answer = daemon.call("system_vm.why", name=name)
    if (answer["reason"], answer["hint"]) != (first["reason"], first["hint"]):
        click.echo()
        _tell_reason(answer)
    _tell_lately(daemon, name)


def _tell_reason(answer: dict[str, Any]) -> None:
    unknown = "not known yet" if answer.get("pending") else "nothing is known to be wrong"
    click.echo(f"reason: {answer['reason'] or unknown}")
    click.echo(f"hint:   {answer['hint'] or 'none'}")


def _tell_lately(daemon: Daemon, name: str) -> None:
    """What happened to it: why it was in Alert a while ago."""
    found = daemon.records(
        "listEvents", "event", resourceid=SYSTEM_VM.find(daemon, name)["id"], page="1", pagesize=str(_LATELY)
    )
    if found:
        click.echo("\nlately:")
    for event in reversed(found):
        when = output.moment(event["createdms"]).strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"  {when}  {event['type']:<16} {event['description']}")


@click.command(
    epilog="Exit code: 0 all good, warnings included; 4 a check found an error; 1 it could not be run; "
    "3 no daemon answers."
)
@click.argument("name", shell_complete=complete_system_vm)
@click.pass_obj
def check(daemon: Daemon, name: str) -> None:
    """Run the system VM's own checks: name service, storage, the daemon's port, the agent."""
    report = daemon.call("system_vm.check", timeout_s=scaled_s(CHECK_S), name=name)
    steps = report["steps"]
    if daemon.as_json:
        output.as_json(report)
    else:
        output.table(
            ("CHECK", "RESULT", ""),
            [(step["name"], output.state(step["status"]), step["text"]) for step in steps],
            f"{name} ran no check.",
            {step["name"]: step["hint"] for step in steps if step.get("hint") and step["status"] != "good"},
        )
    if any(step["status"] == "error" for step in steps):
        raise SystemExit(EXIT_CHECK_FAILED)


@click.group()
def rpc() -> None:
    """JSON-RPC as the daemon speaks it with its agents."""


@rpc.command("call")
@click.argument("name", shell_complete=complete_system_vm)
@click.argument("method")
@click.argument("params", default="{}")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds.")
@click.pass_obj
def rpc_call(daemon: Daemon, name: str, method: str, params: str, timeout_s: float) -> None:
    """Call METHOD of the agent NAME with PARAMS (a JSON object); `rpc.discover` lists the methods."""
    given = _object(params)
    output.as_json(daemon.call("system_vm.rpc", timeout_s=timeout_s, name=name, method=method, params=given))


@rpc.command("daemon")
@click.argument("method")
@click.argument("params", default="{}")
@click.pass_obj
def rpc_daemon(daemon: Daemon, method: str, params: str) -> None:
    """Call METHOD of the daemon itself; `rpc.discover` lists the methods."""
    output.as_json(daemon.call(method, **_object(params)))


def _object(params: str) -> dict[str, Any]:
    try:
        given = json.loads(params)
    except ValueError as error:
        raise Failed(f"PARAMS is not JSON: {error}", "Quote it for the shell: '{\"key\": 1}'", 2) from None
    if not isinstance(given, dict):
        raise Failed("PARAMS is no JSON object", "Parameters have names: '{\"key\": 1}'", 2)
    return given
