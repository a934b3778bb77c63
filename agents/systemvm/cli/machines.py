# SPDX-License-Identifier: Apache-2.0
"""`systemvm vm` and `systemvm console`: the users' virtual machines and their screens."""

from __future__ import annotations

import webbrowser

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import Daemon, Failed
from systemvm.cli.machine_kind import MachineKind
from systemvm.cli.system_vms import SYSTEM_VM
from systemvm.cli.templates import ISO, TEMPLATE

MACHINE = MachineKind("VM", "listVirtualMachines", "virtualmachine", {"listall": "true"})


@click.group()
def vm() -> None:
    """Virtual machines of the cloud's users."""


@vm.command("list")
@click.pass_obj
def list_machines(daemon: Daemon) -> None:
    """Machines with their state."""
    MACHINE.show(
        daemon,
        ("NAME", "INSTANCE", "STATE", "FROM", "ID"),
        lambda row: (
            row.get("displayname") or row["name"],
            row.get("instancename"),
            output.state(row["state"]),
            row.get("templatename") or row.get("isoname"),
            row["id"],
        ),
        "No machine yet; `systemvm vm deploy NAME --template T` makes one.",
    )


@vm.command("deploy")
@click.argument("name")
@click.option("--template", "template_name", help="A Ready template, by name or id.")
@click.option("--iso", "iso_name", help="A Ready ISO to boot from instead, with an empty disk.")
@click.option("--offering", help="A size, by name or id (the first one without it).")
@click.pass_obj
def deploy(
    daemon: Daemon, name: str, template_name: str | None, iso_name: str | None, offering: str | None
) -> None:
    """Make a machine from a template (a linked clone) or an ISO, and start it."""
    if (template_name is None) == (iso_name is None):
        raise click.UsageError("give one of --template and --iso")
    kind = TEMPLATE if template_name else ISO
    source = daemon.find(
        kind.listing, kind.key, template_name or iso_name or "", kind.noun, **{kind.filter_name: "all"}
    )
    sizes = daemon.records("listServiceOfferings", "serviceoffering")
    chosen = [row for row in sizes if offering in (None, row["id"], row["name"])]
    if not chosen:
        raise Failed(
            f"no offering is called {offering!r}", "There is: " + ", ".join(r["name"] for r in sizes)
        )
    result = daemon.job(
        "deployVirtualMachine",
        name=name,
        displayname=name,
        templateid=source["id"],
        serviceofferingid=chosen[0]["id"],
        zoneid=source.get("zoneid") or daemon.zone_id(),
        hypervisor="KVM",
    )
    machine = result["virtualmachine"]
    if daemon.as_json:
        output.as_json(machine)
    else:
        click.echo(f"{name} is {machine['state']}; `systemvm console {name}` shows its screen.")


@vm.command()
@click.argument("name")
@click.pass_obj
def start(daemon: Daemon, name: str) -> None:
    """Start a stopped machine."""
    MACHINE.act(daemon, "startVirtualMachine", name, "Running")


@vm.command()
@click.argument("name")
@click.option("--forced", is_flag=True, help="Pull the plug instead of pressing the power button.")
@click.pass_obj
def stop(daemon: Daemon, name: str, forced: bool) -> None:
    """Stop a machine."""
    MACHINE.act(daemon, "stopVirtualMachine", name, "Stopped", forced=str(forced).lower())


@vm.command()
@click.argument("name")
@click.option("--forced", is_flag=True, help="Pull the plug instead of pressing the power button.")
@click.pass_obj
def reboot(daemon: Daemon, name: str, forced: bool) -> None:
    """Stop and start a running machine; its open consoles come back by themselves."""
    MACHINE.act(daemon, "rebootVirtualMachine", name, "Running", forced=str(forced).lower())


@vm.command()
@click.argument("name")
@click.option("--expunge", is_flag=True, help="Delete its disk at once: it cannot be recovered.")
@click.confirmation_option(prompt="The machine is ended and destroyed. Go on?")
@click.pass_obj
def destroy(daemon: Daemon, name: str, expunge: bool) -> None:
    """Destroy a machine; `vm recover` brings it back within expunge.delay, a day by default."""
    done = "destroyed and expunged" if expunge else "destroyed"
    MACHINE.act(daemon, "destroyVirtualMachine", name, done, expunge=str(expunge).lower())


@vm.command()
@click.argument("name")
@click.pass_obj
def recover(daemon: Daemon, name: str) -> None:
    """Bring a destroyed machine back; it is Stopped then."""
    daemon.call("recoverVirtualMachine", id=MACHINE.find(daemon, name)["id"])
    click.echo(f"{name} is recovered; `systemvm vm start {name}` starts it.")


@vm.command()
@click.argument("name")
@click.confirmation_option(prompt="Its disk is deleted, for good. Go on?")
@click.pass_obj
def expunge(daemon: Daemon, name: str) -> None:
    """Delete the disk of a destroyed machine now."""
    MACHINE.act(daemon, "expungeVirtualMachine", name, "expunged")


@click.command()
@click.argument("name")
@click.option("--open", "open_browser", is_flag=True, help="Open it in this desktop's browser.")
@click.pass_obj
def console(daemon: Daemon, name: str, open_browser: bool) -> None:
    """Print an address that shows the screen of a machine, once, within a minute."""
    systems = {row["name"]: row for row in SYSTEM_VM.rows(daemon)}
    machine = systems.get(name) or MACHINE.find(daemon, name)
    answer = daemon.call("createConsoleEndpoint", virtualmachineid=machine["id"])["consoleendpoint"]
    if not answer["success"]:
        raise Failed(answer["details"], answer.get("hint", ""))
    if daemon.as_json:
        output.as_json(answer)
    else:
        click.echo(answer["url"])
    if open_browser:
        webbrowser.open(answer["url"])
