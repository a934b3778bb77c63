# SPDX-License-Identifier: Apache-2.0
"""`systemvm system-vm`, `check` and `rpc`: operate the system VMs themselves."""

from __future__ import annotations

import json
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.completion import complete_system_vm
from systemvm.cli.daemon_client import EXIT_CHECK_FAILED, EXIT_USAGE, CommandFailedError, DaemonClient
from systemvm.cli.machine_kind import MachineKind
from systemvm.service.slowness import scaled_s

#: Longer than the daemon waits for the system VM.
CHECK_TIMEOUT_S = 120.0
_MAX_RECENT_EVENTS = 8
_SHORT_TYPES = {"secondarystoragevm": "SSVM", "consoleproxy": "CPVM"}

SYSTEM_VM = MachineKind("system VM", "listSystemVms", "systemvm")


_drain = click.option(
    "--drain",
    is_flag=True,
    help="CPVM: begin when its last console has ended, or after the setting consoleproxy.drain.timeout.",
)


def _asked(*, drain: bool) -> dict[str, Any]:
    """Return the parameter only where it is asked for: older daemons do not know it."""
    return {"drain": "true"} if drain else {}


@click.group("system-vm", short_help="Manage system VMs (SSVM and CPVM).")
def system_vm() -> None:
    """Manage system VMs: the secondary storage VM (SSVM) and the console proxy VM (CPVM).

    \b
    Examples:
      systemvm system-vm list
      systemvm system-vm why s-1-VM
    """


@system_vm.command("list")
@click.pass_obj
def list_system_vms(daemon: DaemonClient) -> None:
    """List system VMs and the states of their agents.

    The reason is printed below the table when an agent is not Up.

    \b
    Example:
      systemvm system-vm list
    """
    SYSTEM_VM.print_list(
        daemon,
        ("NAME", "TYPE", "STATE", "AGENT", "CONTROL", "ADDRESS", "VERSION"),
        lambda row: (
            row["name"],
            _SHORT_TYPES.get(row["systemvmtype"], row["systemvmtype"]),
            output.coloured_state(row["state"]),
            output.coloured_state(row.get("agentstate")) + (", drains" if row.get("drainuntil") else ""),
            row.get("linklocalip"),
            # a zone without a public network reaches it on the management network
            row.get("publicip") or row.get("privateip"),
            row.get("version"),
        ),
        "There is no system VM yet. The daemon creates them when it needs them.",
    )


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.pass_obj
def start(daemon: DaemonClient, name: str) -> None:
    """Start the stopped system VM NAME.

    \b
    Example:
      systemvm system-vm start s-1-VM
    """
    SYSTEM_VM.run(daemon, "startSystemVm", name, "Running")


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.option("--forced", is_flag=True, help="Turn it off instead of asking the guest to shut down.")
@_drain
@click.pass_obj
def stop(daemon: DaemonClient, name: str, forced: bool, drain: bool) -> None:
    """Stop the system VM NAME. The daemon starts it again when its zone needs one.

    \b
    Example:
      systemvm system-vm stop s-1-VM
    """
    SYSTEM_VM.run(daemon, "stopSystemVm", name, "Stopped", forced=str(forced).lower(), **_asked(drain=drain))


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.option("--forced", is_flag=True, help="Turn it off instead of asking the guest to shut down.")
@_drain
@click.pass_obj
def reboot(daemon: DaemonClient, name: str, forced: bool, drain: bool) -> None:
    """Reboot the system VM NAME. It keeps its addresses.

    \b
    Example:
      systemvm system-vm reboot v-2-VM
    """
    SYSTEM_VM.run(
        daemon, "rebootSystemVm", name, "Running", forced=str(forced).lower(), **_asked(drain=drain)
    )


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.confirmation_option(prompt="This ends its consoles and interrupts its downloads. Continue?")
@_drain
@click.pass_obj
def destroy(daemon: DaemonClient, name: str, drain: bool) -> None:
    """Destroy the system VM NAME permanently. The daemon creates another one from the newest image.

    \b
    Example:
      systemvm system-vm destroy v-2-VM
    """
    SYSTEM_VM.run(
        daemon, "destroySystemVm", name, "destroyed; another takes its place", **_asked(drain=drain)
    )


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.option("--forced", is_flag=True, help="Patch it even if it already runs this daemon's agent.")
@_drain
@click.pass_obj
def patch(daemon: DaemonClient, name: str, forced: bool, drain: bool) -> None:
    """Install this daemon's agent in a running system VM.

    This needs neither a new image nor a reboot. The new agent is tested first: if it does not come Up, the
    old one is restored and the command reports the error.

    \b
    Example:
      systemvm system-vm patch s-1-VM
    """
    result = daemon.run_job(
        "patchSystemVm",
        id=SYSTEM_VM.find(daemon, name)["id"],
        forced=str(forced).lower(),
        **_asked(drain=drain),
    )
    click.echo(result["displaytext"])


@system_vm.command(short_help="Give a console proxy VM no new console.")
@click.argument("name", shell_complete=complete_system_vm)
@click.option("--timeout", type=click.IntRange(0, 86_400), help="Seconds until its last consoles end.")
@click.option("--cancel", is_flag=True, help="Let it take new consoles again.")
@click.pass_obj
def drain(daemon: DaemonClient, name: str, timeout: int | None, cancel: bool) -> None:
    """Give the console proxy VM NAME no new console; those that are open go on until the timeout.

    Without --timeout, the zone's setting consoleproxy.drain.timeout is used. "stop", "reboot", "destroy" and
    "patch" with --drain do this by themselves.

    \b
    Example:
      systemvm system-vm drain v-2-VM --timeout 600
    """
    which: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    if cancel:
        which["cancel"] = "true"
    answer = daemon.call("drainConsoleProxy", id=SYSTEM_VM.find(daemon, name)["id"], **which)
    click.echo(answer["displaytext"])


@system_vm.command()
@click.argument("name", shell_complete=complete_system_vm)
@click.pass_obj
def why(daemon: DaemonClient, name: str) -> None:
    """Explain why the system VM NAME is not Up, and what to do.

    The daemon examines the VM now: from outside, and from inside if the guest answers. The last events are
    printed, too.

    \b
    Example:
      systemvm system-vm why s-1-VM
    """
    answer = daemon.call("system_vm.why", name=name)
    if daemon.as_json:
        while answer.get("pending"):
            answer = daemon.call("system_vm.why", name=name)
        output.print_json(answer)
        return
    click.echo(f"{name} is {answer['state']}, its agent {answer['agentstate']}.")
    _print_reason(answer)
    printed, first, pending = 0, answer, ""
    while True:
        for finding in answer["looked_at"][printed:]:
            click.echo(f"\n{finding['what']}:")
            for line in finding["said"].splitlines():
                click.echo(f"  {line}")
        printed = len(answer["looked_at"])
        if not answer.get("pending"):
            break
        if answer["pending"] != pending:
            pending = answer["pending"]
            click.echo(f"\nstill examining {pending} …")
        answer = daemon.call("system_vm.why", name=name)
    if (answer["reason"], answer["hint"]) != (first["reason"], first["hint"]):
        click.echo()
        _print_reason(answer)
    _print_recent_events(daemon, name)


def _print_reason(answer: dict[str, Any]) -> None:
    default = "not known yet" if answer.get("pending") else "no problem was found"
    click.echo(f"reason: {answer['reason'] or default}")
    click.echo(f"hint:   {answer['hint'] or 'none'}")


def _print_recent_events(daemon: DaemonClient, name: str) -> None:
    """Print the VM's last events, which explain a problem that is over."""
    vm_id = SYSTEM_VM.find(daemon, name)["id"]
    events = daemon.records(
        "listEvents", "event", resourceid=vm_id, page="1", pagesize=str(_MAX_RECENT_EVENTS)
    )
    if events:
        click.echo("\nrecent events:")
    for event in reversed(events):
        when = output.local_time(event["createdms"]).strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"  {when}  {event['type']:<16} {event['description']}")


@click.command(
    short_help="Run the checks of a system VM.",
    epilog="Exit codes: 0 no check found an error (warnings are not errors); 4 a check found an error; 1 the "
    "checks could not be run; 3 the daemon cannot be reached.",
)
@click.argument("name", shell_complete=complete_system_vm)
@click.pass_obj
def check(daemon: DaemonClient, name: str) -> None:
    """Run the checks of the system VM NAME: DNS, image store, management port, agent, certificate.

    \b
    Example:
      systemvm check s-1-VM
    """
    report = daemon.call("system_vm.check", timeout_s=scaled_s(CHECK_TIMEOUT_S), name=name)
    steps = report["steps"]
    if daemon.as_json:
        output.print_json(report)
    else:
        output.print_table(
            ("CHECK", "RESULT", ""),
            [(step["name"], output.coloured_state(step["status"]), step["text"]) for step in steps],
            f"{name} has no checks.",
            {step["name"]: step["hint"] for step in steps if step.get("hint") and step["status"] != "good"},
        )
    if any(step["status"] == "error" for step in steps):
        raise SystemExit(EXIT_CHECK_FAILED)


@click.group(short_help="Call JSON-RPC methods of agents or daemon.")
def rpc() -> None:
    """Call JSON-RPC methods of an agent or of the daemon, as they call each other.

    \b
    Examples:
      systemvm rpc call s-1-VM rpc.discover
      systemvm rpc call s-1-VM agent.health
      systemvm rpc daemon listZones
    """


@rpc.command("call")
@click.argument("name", shell_complete=complete_system_vm)
@click.argument("method")
@click.argument("params", default="{}")
@click.option(
    "--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds to wait for the result."
)
@click.pass_obj
def rpc_call(daemon: DaemonClient, name: str, method: str, params: str, timeout_s: float) -> None:
    """Call METHOD of the agent in the system VM NAME.

    PARAMS is a JSON object. The method rpc.discover describes all methods.

    \b
    Example:
      systemvm rpc call s-1-VM agent.health '{}'
    """
    given = _parse_params(params)
    output.print_json(
        daemon.call("system_vm.rpc", timeout_s=timeout_s, name=name, method=method, params=given)
    )


@rpc.command("daemon")
@click.argument("method")
@click.argument("params", default="{}")
@click.pass_obj
def rpc_daemon(daemon: DaemonClient, method: str, params: str) -> None:
    """Call METHOD of the daemon. PARAMS is a JSON object; the method rpc.discover describes all methods.

    \b
    Example:
      systemvm rpc daemon listTemplates '{"templatefilter": "all"}'
    """
    output.print_json(daemon.call(method, **_parse_params(params)))


def _parse_params(params: str) -> dict[str, Any]:
    hint = "quote a JSON object for the shell, for example '{\"key\": 1}'"
    try:
        given = json.loads(params)
    except ValueError as error:
        raise CommandFailedError(f"PARAMS is not JSON: {error}", hint, EXIT_USAGE) from None
    if not isinstance(given, dict):
        raise CommandFailedError("PARAMS is not a JSON object", hint, EXIT_USAGE)
    return given
