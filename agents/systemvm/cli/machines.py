# SPDX-License-Identifier: Apache-2.0
"""`systemvm vm`: users' virtual machines."""

from __future__ import annotations

import base64
from typing import Any, BinaryIO

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.machine_kind import MachineKind
from systemvm.cli.template_kind import ISO, TEMPLATE

USER_VM = MachineKind("VM", "listVirtualMachines", "virtualmachine", {"listall": "true"})


@click.group()
def vm() -> None:
    """Manage users' virtual machines.

    \b
    Example:
      systemvm vm deploy one --template tiny
    """


@vm.command("list")
@click.pass_obj
def list_machines(daemon: DaemonClient) -> None:
    """List virtual machines and their states.

    The reason is printed below the table when a VM is not in the state that its user asked for, or waits for
    room on its storage.

    \b
    Example:
      systemvm vm list
    """
    USER_VM.print_list(
        daemon,
        ("NAME", "INSTANCE", "STATE", "ADDRESS", "FROM", "ID"),
        lambda row: (
            row.get("displayname") or row["name"],
            row.get("instancename"),
            output.coloured_state(row["state"]),
            next((nic["ipaddress"] for nic in row.get("nic", ()) if "ipaddress" in nic), None),
            row.get("templatename") or row.get("isoname"),
            row["id"],
        ),
        'There is no VM yet. Run "systemvm vm deploy NAME --template TEMPLATE" to create one.',
    )


@vm.command("deploy")
@click.argument("name")
@click.option("--template", "template_name", help="Name or id of a template that is Ready.")
@click.option("--iso", "iso_name", help="Name or id of an ISO that is Ready; the VM gets an empty disk.")
@click.option("--offering", help="Name or id of a service offering. Default: the first one.")
@click.option(
    "--keyboard",
    help="The keyboard layout that the guest will have, such as de or fr-be: its console and "
    '"systemvm console type" use it.',
)
@click.option(
    "--boot-type",
    type=click.Choice(("BIOS", "UEFI"), case_sensitive=False),
    help="Its firmware. Default: BIOS, and UEFI of an arm64 VM.",
)
@click.option("--host", help="Name or id of the host that it runs on, for root administrators.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    help="Name or id of a guest network; again for a further NIC. Default: the zone's own, else the first.",
)
@click.option("--address", help="Its address on the first network. Default: a free one.")
@click.option(
    "--user-data",
    type=click.File("rb"),
    help="A file, such as of cloud-init, for the metadata service or the config drive of the guest.",
)
@click.pass_obj
def deploy(
    daemon: DaemonClient,
    name: str,
    template_name: str | None,
    iso_name: str | None,
    offering: str | None,
    keyboard: str | None,
    boot_type: str | None,
    host: str | None,
    networks: tuple[str, ...],
    address: str | None,
    user_data: BinaryIO | None,
) -> None:
    """Create and start the VM NAME from a template or ISO.

    The disk of a VM from a template is a linked clone: it is ready at once and stores only what changes.

    \b
    Examples:
      systemvm vm deploy one --template tiny
      systemvm vm deploy two --iso netboot --offering medium --keyboard de
      systemvm vm deploy installer --iso debian-netinst --boot-type UEFI
      systemvm vm deploy three --template debian --address 10.13.0.60 --user-data cloud-init.yaml
      systemvm vm deploy four --template debian --network backend --user-data cloud-init.yaml
    """
    if (template_name is None) == (iso_name is None):
        raise click.UsageError("give either --template or --iso")
    kind = TEMPLATE if template_name else ISO
    source = kind.find(daemon, template_name or iso_name or "")
    offering_id = _offering_id(daemon, offering)
    result = daemon.run_job(
        "deployVirtualMachine",
        name=name,
        displayname=name,
        templateid=source["id"],
        serviceofferingid=offering_id,
        zoneid=source.get("zoneid") or daemon.zone_id(),
        hypervisor="KVM",
        keyboard=keyboard,
        boottype=boot_type,
        hostid=None if host is None else daemon.find("listHosts", "host", host, "host")["id"],
        networkids=",".join(_network_ids(daemon, networks)) or None,
        ipaddress=address,
        userdata=_encoded(user_data),
    )
    machine = result["virtualmachine"]
    if daemon.as_json:
        output.print_json(machine)
    else:
        click.echo(f'{name} is {machine["state"]}. Run "systemvm console {name}" to open its console.')
        _show_password(machine)


def _encoded(user_data: BinaryIO | None) -> str | None:
    return None if user_data is None else base64.b64encode(user_data.read()).decode()


def _offering_id(daemon: DaemonClient, name: str | None) -> str:
    """Return the id of a service offering; without a name, of the first one."""
    offerings = daemon.records("listServiceOfferings", "serviceoffering")
    chosen = [row for row in offerings if name in (None, row["id"], row["name"])]
    if not chosen:
        raise CommandFailedError(
            f"there is no service offering named {name!r}",
            f"choose one of these: {', '.join(row['name'] for row in offerings)}",
        )
    return str(chosen[0]["id"])


def _network_ids(daemon: DaemonClient, names: tuple[str, ...]) -> list[str]:
    """Return the ids of guest networks."""
    return [daemon.find("listNetworks", "network", name, "guest network")["id"] for name in names]


@vm.command("reset-password")
@click.argument("name")
@click.pass_obj
def reset_password(daemon: DaemonClient, name: str) -> None:
    """Give the stopped VM NAME a new password.

    Its guest takes it when it starts. Its template must be one whose guests take
    passwords from the cloud (passwordenabled).

    \b
    Example:
      systemvm vm reset-password one
    """
    result = daemon.run_job("resetPasswordForVirtualMachine", id=USER_VM.find(daemon, name)["id"])
    machine = result["virtualmachine"]
    if daemon.as_json:
        output.print_json(machine)
    else:
        _show_password(machine)


def _show_password(machine: dict[str, Any]) -> None:
    if "password" in machine:
        click.echo(f"Its password is {machine['password']} and is not shown again.")


@vm.command()
@click.argument("name")
@click.pass_obj
def start(daemon: DaemonClient, name: str) -> None:
    """Start the stopped VM NAME.

    \b
    Example:
      systemvm vm start one
    """
    USER_VM.run(daemon, "startVirtualMachine", name, "Running")


@vm.command()
@click.argument("name")
@click.option("--forced", is_flag=True, help="Turn it off instead of asking the guest to shut down.")
@click.pass_obj
def stop(daemon: DaemonClient, name: str, forced: bool) -> None:
    """Stop the VM NAME.

    \b
    Example:
      systemvm vm stop one
    """
    USER_VM.run(daemon, "stopVirtualMachine", name, "Stopped", forced=str(forced).lower())


@vm.command()
@click.argument("name")
@click.option("--forced", is_flag=True, help="Turn it off instead of asking the guest to shut down.")
@click.pass_obj
def reboot(daemon: DaemonClient, name: str, forced: bool) -> None:
    """Stop the running VM NAME and start it again. Its open consoles reconnect.

    \b
    Example:
      systemvm vm reboot one --forced
    """
    USER_VM.run(daemon, "rebootVirtualMachine", name, "Running", forced=str(forced).lower())


@vm.command()
@click.argument("name")
@click.argument("pool")
@click.pass_obj
def migrate(daemon: DaemonClient, name: str, pool: str) -> None:
    """Move the volumes of the stopped VM NAME to a pool.

    \b
    Example:
      systemvm vm migrate one shared1
    """
    target = daemon.find("listStoragePools", "storagepool", pool, "storage pool")
    vm_id = USER_VM.find(daemon, name)["id"]
    daemon.run_job("migrateVirtualMachine", virtualmachineid=vm_id, storageid=target["id"])
    click.echo(f"the volumes of {name} are in {pool}.")


@vm.command()
@click.argument("name")
@click.option("--template", "template_name", help="Name or id of another template that is Ready.")
@click.option("--iso", "iso_name", help="Name or id of another ISO, for a VM that was deployed from one.")
@click.confirmation_option(prompt="This deletes what is on the VM's root disk. Continue?")
@click.pass_obj
def restore(daemon: DaemonClient, name: str, template_name: str | None, iso_name: str | None) -> None:
    """Make the root disk of the VM NAME anew from its template.

    A running VM is stopped and started again. Its data volumes and its snapshots stay.

    \b
    Examples:
      systemvm vm restore one
      systemvm vm restore one --template debian
    """
    if template_name and iso_name:
        raise click.UsageError("give either --template or --iso")
    kind, image = (TEMPLATE, template_name) if template_name else (ISO, iso_name)
    result = daemon.run_job(
        "restoreVirtualMachine",
        virtualmachineid=USER_VM.find(daemon, name)["id"],
        templateid=kind.find(daemon, image)["id"] if image else None,
    )
    machine = result["virtualmachine"]
    if daemon.as_json:
        output.print_json(machine)
    else:
        click.echo(f"{name} has a new root disk and is {machine['state']}.")
        _show_password(machine)


@vm.command()
@click.argument("name")
@click.option("--name", "display_name", help="Its new name for people; its host name stays.")
@click.option(
    "--user-data", type=click.File("rb"), help="A file for its metadata service, or its next config drive."
)
@click.pass_obj
def update(daemon: DaemonClient, name: str, display_name: str | None, user_data: BinaryIO | None) -> None:
    """Change name for people or user data of the VM NAME.

    \b
    Examples:
      systemvm vm update one --name "Web server"
      systemvm vm update one --user-data cloud-init.yaml
    """
    if display_name is None and user_data is None:
        raise click.UsageError("give --name or --user-data")
    daemon.call(
        "updateVirtualMachine",
        id=USER_VM.find(daemon, name)["id"],
        displayname=display_name,
        userdata=_encoded(user_data),
    )
    click.echo(f"{name} is changed.")


@vm.command()
@click.argument("name")
@click.option("--offering", required=True, help="Name or id of the service offering.")
@click.pass_obj
def scale(daemon: DaemonClient, name: str, offering: str) -> None:
    """Give the stopped VM NAME another offering.

    It has its CPUs and memory from its next start.

    \b
    Example:
      systemvm vm scale one --offering medium
    """
    vm_id = USER_VM.find(daemon, name)["id"]
    daemon.run_job("scaleVirtualMachine", id=vm_id, serviceofferingid=_offering_id(daemon, offering))
    click.echo(f"{name} has the offering {offering} from its next start.")


@vm.command()
@click.argument("name")
@click.option("--expunge", is_flag=True, help="Delete the disk, too: the VM cannot be recovered.")
@click.confirmation_option(prompt="This turns the VM off and destroys it. Continue?")
@click.pass_obj
def destroy(daemon: DaemonClient, name: str, expunge: bool) -> None:
    """Destroy the VM NAME.

    "systemvm vm recover" can undo this until the VM is expunged, which happens after expunge.delay (by
    default one day).

    \b
    Example:
      systemvm vm destroy one
    """
    done = "destroyed and expunged" if expunge else "destroyed"
    USER_VM.run(daemon, "destroyVirtualMachine", name, done, expunge=str(expunge).lower())


@vm.command()
@click.argument("name")
@click.pass_obj
def recover(daemon: DaemonClient, name: str) -> None:
    """Recover the destroyed VM NAME. It is Stopped afterwards.

    \b
    Example:
      systemvm vm recover one
    """
    daemon.call("recoverVirtualMachine", id=USER_VM.find(daemon, name)["id"])
    click.echo(f'{name} is recovered. Run "systemvm vm start {name}" to start it.')


@vm.command()
@click.argument("name")
@click.confirmation_option(prompt="This deletes the VM's disk permanently. Continue?")
@click.pass_obj
def expunge(daemon: DaemonClient, name: str) -> None:
    """Delete the disk of the destroyed VM NAME now. It cannot be recovered afterwards.

    \b
    Example:
      systemvm vm expunge one
    """
    USER_VM.run(daemon, "expungeVirtualMachine", name, "expunged")


@vm.command("attach-iso")
@click.argument("name")
@click.argument("iso")
@click.option("--forced", is_flag=True, help="Eject another ISO that it has, even if the guest uses it.")
@click.pass_obj
def attach_iso(daemon: DaemonClient, name: str, iso: str, forced: bool) -> None:
    """Put the ISO ISO into the drive of the VM NAME.

    A VM that runs has it at once. A VM that is stopped has it from its next start on, and
    boots from it if it can.

    \b
    Example:
      systemvm vm attach-iso one drivers
    """
    machine, found = USER_VM.find(daemon, name), ISO.find(daemon, iso)
    flag = str(forced).lower()
    daemon.run_job("attachIso", id=found["id"], virtualmachineid=machine["id"], forced=flag)
    click.echo(f"{iso} is attached to {name}.")


@vm.command("detach-iso")
@click.argument("name")
@click.option("--forced", is_flag=True, help="Eject it even if the guest uses it.")
@click.pass_obj
def detach_iso(daemon: DaemonClient, name: str, forced: bool) -> None:
    """Take the ISO of the VM NAME out of its drive.

    Unmount it in the guest first.

    \b
    Example:
      systemvm vm detach-iso one
    """
    machine = USER_VM.find(daemon, name)
    daemon.run_job("detachIso", virtualmachineid=machine["id"], forced=str(forced).lower())
    click.echo(f"the ISO of {name} is detached.")
