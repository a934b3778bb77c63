# SPDX-License-Identifier: Apache-2.0
"""`systemvm host`: hosts of the cloud, and XenServer, XCP-ng and vCenter hosts registered for consoles."""

from __future__ import annotations

from typing import Any, TextIO

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient

#: The daemon's deadline for a host that answers slowly.
TIMEOUT_S = 200.0
KINDS = {"kvm": "KVM", "xenserver": "XenServer", "vmware": "VMware"}


@click.group(short_help="Manage hosts, and register others for consoles.")
def host() -> None:
    """Manage hosts. One of KVM, with its own daemon, joins a cluster; others are registered for consoles.

    \b
    Example:
      systemvm host add https://10.11.0.31 --username systemvm --password-file xen.password
    """


def _find(daemon: DaemonClient, name: str) -> dict[str, Any]:
    return daemon.find("listHosts", "host", name, "host", type="Routing")


def _read(file: TextIO | None) -> str | None:
    return None if file is None else file.read().strip("\n")


@host.command("list", short_help="List hosts.")
@click.pass_obj
def list_hosts(daemon: DaemonClient) -> None:
    """List hosts, without the agents of system VMs.

    \b
    Example:
      systemvm host list
    """
    rows = daemon.records("listHosts", "host", type="Routing")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "HYPERVISOR", "ZONE", "ADDRESS", "STATE", "VMS", "CONSOLES AT"),
        [
            (
                row["name"],
                row.get("hypervisor", ""),
                row.get("zonename", ""),
                row.get("url") or row.get("ipaddress", ""),
                row["state"],
                str(row.get("virtualmachines", "")),
                " ".join(row.get("consoleaddresses", [])),
            )
            for row in rows
        ],
        "There is no host.",
    )
    for row in rows:
        if row.get("reason"):
            click.echo(f"{row['name']}: {row['reason']}; {row.get('hint', '')}".rstrip("; "))


@host.command("add", short_help="Register the host at URL.")
@click.argument("url")
@click.option("--hypervisor", type=click.Choice(list(KINDS)), default="xenserver", show_default=True)
@click.option("--name", help="Its name.  [default: the host of URL]")
@click.option("--zone", help="Name of its zone. Default: the only zone.")
@click.option("--pod", help="Name of its pod.")
@click.option("--cluster", help="Name of the cluster that it joins.")
@click.option("--username", help="Account that reads VMs and opens their consoles; not of KVM.")
@click.option("--password-file", type=click.File(), help="Its password; - is the input.")
@click.option("--ca", type=click.File(), help="CA that its certificate is verified with. A vCenter needs it.")
@click.option("--fingerprint", help="SHA-256 or SHA-1 of its certificate, instead of a CA.")
@click.pass_obj
def add_host(
    daemon: DaemonClient,
    url: str,
    hypervisor: str,
    name: str | None,
    zone: str | None,
    pod: str | None,
    cluster: str | None,
    username: str | None,
    password_file: TextIO | None,
    ca: TextIO | None,
    fingerprint: str | None,
) -> None:
    """Register the host at URL: the API of a XenServer, of an XCP-ng pool's master, or of a vCenter.

    A host of KVM, whose own daemon runs, joins a cluster by its name instead of a URL.

    Without --ca and --fingerprint nothing is sent to it: the command fails and prints the fingerprint of its
    certificate, which you compare on the host itself and give with the second try.

    \b
    Examples:
      systemvm host add https://10.11.0.31 --username systemvm --password-file xen.password
      systemvm host add https://vcenter --hypervisor vmware --username cloud --password-file pw --ca vmca.pem
      systemvm host add host2 --hypervisor kvm --zone zone1 --pod pod1
    """
    zone_id = daemon.find("listZones", "zone", zone, "zone")["id"] if zone else None
    pod_id = daemon.find("listPods", "pod", pod, "pod")["id"] if pod else None
    cluster_id = daemon.find("listClusters", "cluster", cluster, "cluster")["id"] if cluster else None
    answer = daemon.call(
        "addHost", timeout_s=TIMEOUT_S, hypervisor=KINDS[hypervisor], url=url, name=name, zoneid=zone_id,
        podid=pod_id, clusterid=cluster_id,
        username=username, password=_read(password_file), cacertificate=_read(ca), fingerprint=fingerprint,
    )  # fmt: skip
    [row] = answer["host"]
    if daemon.as_json:
        output.print_json(row)
        return
    if "virtualmachines" not in row:
        click.echo(f"{row['name']} is {row['state']}.")
        return
    where = ", ".join(row.get("consoleaddresses", [])) or "no address"
    click.echo(f"{row['name']} is {row['state']}: {row['virtualmachines']} VMs, consoles at {where}.")


@host.command("set", short_help="Change the registered host NAME.")
@click.argument("name")
@click.option("--name", "new_name", help="Its new name.")
@click.option("--url", help="Another address; needs --username and --password-file when it is another host.")
@click.option("--username", help="Another account.")
@click.option("--password-file", type=click.File(), help="Another password; - is the input.")
@click.option("--ca", type=click.File(), help="Another CA.")
@click.option("--fingerprint", help="Another fingerprint.")
@click.pass_obj
def set_host(
    daemon: DaemonClient,
    name: str,
    new_name: str | None,
    url: str | None,
    username: str | None,
    password_file: TextIO | None,
    ca: TextIO | None,
    fingerprint: str | None,
) -> None:
    """Change the registered host NAME. It must answer by the new access before the old one is replaced.

    \b
    Example:
      systemvm host set xen-1 --password-file xen.password
    """
    answer = daemon.call(
        "updateHost", timeout_s=TIMEOUT_S, id=_find(daemon, name)["id"], name=new_name, url=url,
        username=username, password=_read(password_file), cacertificate=_read(ca), fingerprint=fingerprint,
    )  # fmt: skip
    row = answer["host"]
    output.print_json(row) if daemon.as_json else click.echo(f"{row['name']} is {row['state']}.")


@host.command("refresh", short_help="List the VMs of the host NAME now.")
@click.argument("name")
@click.pass_obj
def refresh_host(daemon: DaemonClient, name: str) -> None:
    """List the VMs of the registered host NAME now, instead of within a minute.

    \b
    Example:
      systemvm host refresh xen-1
    """
    row = daemon.run_job("reconnectHost", id=_find(daemon, name)["id"])["host"]
    text = f"{row['name']} is {row['state']}: {row['virtualmachines']} VMs."
    output.print_json(row) if daemon.as_json else click.echo(text)


@host.command("remove", short_help="Forget the host NAME.")
@click.argument("name")
@click.pass_obj
def remove_host(daemon: DaemonClient, name: str) -> None:
    """Forget the registered host NAME and its VMs, or take one of KVM out of its cluster.

    Consoles of a registered host's VMs end; the host itself is not changed.

    \b
    Example:
      systemvm host remove xen-1
    """
    daemon.call("deleteHost", timeout_s=TIMEOUT_S, id=_find(daemon, name)["id"])
    click.echo(f"{name} is removed.")
