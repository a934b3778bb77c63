# SPDX-License-Identifier: Apache-2.0
"""`systemvm store`: the image stores of a zone, which are its secondary storage."""

from __future__ import annotations

from typing import Any, TextIO

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient
from systemvm.cli.job_progress import run_with_progress


@click.group(short_help="Manage image stores (secondary storage).")
def store() -> None:
    """Manage image stores: NFS exports and buckets that hold templates and ISOs.

    \b
    Example:
      systemvm store add second nfs://10.12.0.3/export/second
    """


def _find(daemon: DaemonClient, name: str) -> dict[str, Any]:
    return daemon.find("listImageStores", "imagestore", name, "image store")


@store.command("list")
@click.pass_obj
def list_stores(daemon: DaemonClient) -> None:
    """List image stores.

    \b
    Example:
      systemvm store list
    """
    rows = daemon.records("listImageStores", "imagestore")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "ZONE", "URL", "SIZE", "USED", "STATE", "ID"),
        [
            (
                row["name"],
                row["zonename"],
                row["url"],
                output.format_size(row.get("disksizetotal")),
                _used(row),
                _state(row),
                row["id"],
            )
            for row in rows
        ],
        'There is no image store yet. Run "systemvm store add NAME URL" to add one.',
    )


def _used(row: dict[str, Any]) -> str:
    total, used = row.get("disksizetotal"), row.get("disksizeused")
    if used is None:
        return "-"
    return f"{100 * used / total:.0f}%" if total else output.format_size(used) or "0 B"


def _state(row: dict[str, Any]) -> str:
    if row.get("retiring"):
        return "retiring"
    return "read-only" if row["readonly"] else "writable"


@store.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--provider", type=click.Choice(["nfs", "s3"]), help="Kind of store.  [default: by URL]")
@click.option("--zone", help="Name of its zone. Default: the only zone.")
@click.option("--nfs-version", help="Version of NFS: 3, 4.0, 4.1 or 4.2.  [default: 4.2]")
@click.option("--mount-options", help="Further options of nfs(5), such as nconnect=4. NFS 3 has nolock.")
@click.option("--host-path", help="Directory where this host reads the same files. VMs need it.")
@click.option("--access-key", envvar="S3_ACCESS_KEY", help="Access key of the bucket.")
@click.option("--secret-key-file", type=click.File(), help="File with its secret key; - is the input.")
@click.option("--region", help="Region of the bucket.  [default: by endpoint]")
@click.option("--ca", type=click.File(), help="Certificates that its endpoint is verified with.")
@click.option("--capacity-gib", type=click.IntRange(1), help="How much it takes.  [default: any]")
@click.option("--no-public-links", is_flag=True, help="Users do not reach its endpoint.")
@click.pass_obj
def add_store(
    daemon: DaemonClient,
    name: str,
    url: str,
    zone: str | None,
    nfs_version: str | None,
    mount_options: str | None,
    host_path: str | None,
    provider: str | None,
    access_key: str | None,
    secret_key_file: TextIO | None,
    region: str | None,
    ca: TextIO | None,
    capacity_gib: int | None,
    no_public_links: bool,
) -> None:
    """Add the NFS export or the bucket at URL as the store NAME.

    The SSVMs of the zone connect to it before the command returns. URL is nfs://SERVER/PATH, whose
    server's name is looked up now and kept as an address, or https://ENDPOINT/BUCKET.

    \b
    Examples:
      systemvm store add second nfs://10.12.0.3/export/second --host-path /export/second
      systemvm store add bucket https://s3.example.com/images --access-key ID --secret-key-file key
    """
    zone_id = daemon.find("listZones", "zone", zone, "zone")["id"] if zone else None
    given = {"nfs.version": nfs_version, "nfsmountopts": mount_options, "host.path": host_path}
    is_bucket = provider == "s3" or (provider is None and url.startswith(("http://", "https://")))
    if is_bucket:
        endpoint, _, bucket = url.rstrip("/").rpartition("/")
        given |= {
            "endpoint": endpoint,
            "bucket": bucket,
            "accesskey": access_key,
            "secretkey": secret_key_file.read().strip() if secret_key_file is not None else None,
            "region": region,
            "cacertificate": ca.read() if ca is not None else None,
            "capacitybytes": None if capacity_gib is None else str(capacity_gib << 30),
            "publiclinks": "false" if no_public_links else None,
        }
    details = {key: value for key, value in given.items() if value is not None}
    answer = daemon.call(
        "addImageStore", timeout_s=300.0, provider="S3" if is_bucket else "NFS", name=name,
        url=None if is_bucket else url, zoneid=zone_id, details=details or None,
    )  # fmt: skip
    row = answer["imagestore"]
    output.print_json(row) if daemon.as_json else click.echo(row["id"])


@store.command("set")
@click.argument("name")
@click.option("--read-only/--writable", default=None, help="Whether anything is written to it.")
@click.option("--name", "new_name", help="Its new name.")
@click.option("--capacity-gib", type=click.IntRange(0), help="How much a bucket takes; 0: any amount.")
@click.pass_obj
def set_store(
    daemon: DaemonClient, name: str, read_only: bool | None, new_name: str | None, capacity_gib: int | None
) -> None:
    """Change the image store NAME.

    \b
    Example:
      systemvm store set second --read-only
    """
    flag = None if read_only is None else str(read_only).lower()
    answer = daemon.call(
        "updateImageStore", timeout_s=300.0, id=_find(daemon, name)["id"], readonly=flag, name=new_name,
        capacitybytes=None if capacity_gib is None else capacity_gib << 30,
    )  # fmt: skip
    row = answer["imagestore"]
    output.print_json(row) if daemon.as_json else click.echo(f"{row['name']} is {_state(row)}.")


@store.command("retire")
@click.argument("name")
@click.option("--to", "targets", multiple=True, help="Store that its content goes to. Default: all.")
@click.option("--delete", is_flag=True, help="Delete the store when it is empty. Its directory stays.")
@click.option("--cancel", is_flag=True, help="End a retirement; what was moved stays moved.")
@click.pass_obj
def retire_store(
    daemon: DaemonClient, name: str, targets: tuple[str, ...], delete: bool, cancel: bool
) -> None:
    """Empty the image store NAME.

    All its content moves to other stores. It gets nothing new from then on. Ctrl-C does not stop the move.

    \b
    Example:
      systemvm store retire old --to second --delete
    """
    row = _find(daemon, name)
    if cancel:
        daemon.call("cancelImageStoreMigration", id=row["id"])
        click.echo(f"The retirement of {name} is canceled.")
        return
    pools = ",".join(_find(daemon, each)["id"] for each in targets) or None
    result = run_with_progress(daemon, f"retire {name}", "retireImageStore", id=row["id"], destpools=pools)
    if delete:
        daemon.call("deleteImageStore", timeout_s=300.0, id=row["id"])
    if daemon.as_json:
        output.print_json(result["imagestore"])
        return
    click.echo(result["imagestore"]["message"])
    click.echo(f"{name} is deleted." if delete else f'Run "systemvm store delete {name}" to delete it.')


@store.command("balance")
@click.argument("name")
@click.option("--to", "targets", multiple=True, required=True, help="Store that content goes to.")
@click.pass_obj
def balance_store(daemon: DaemonClient, name: str, targets: tuple[str, ...]) -> None:
    """Balance the image store NAME with others.

    Content moves to them until the stores are about equally full.

    \b
    Example:
      systemvm store balance old --to second
    """
    pools = ",".join(_find(daemon, each)["id"] for each in targets)
    result = run_with_progress(
        daemon, f"balance {name}", "migrateSecondaryStorageData", srcpool=_find(daemon, name)["id"],
        destpools=pools, migrationtype="balance",
    )  # fmt: skip
    answer = result["imagestore"]
    output.print_json(answer) if daemon.as_json else click.echo(answer["message"])


@store.command("delete")
@click.argument("name")
@click.pass_obj
def delete_store(daemon: DaemonClient, name: str) -> None:
    """Delete the image store NAME.

    It must not hold the only copy of anything. Its directory stays.

    \b
    Example:
      systemvm store delete old
    """
    daemon.call("deleteImageStore", timeout_s=300.0, id=_find(daemon, name)["id"])
    click.echo(f"{name} is deleted.")


@store.command("adopt")
@click.argument("name")
@click.option("--account", help="Account that will own them. Default: your own.")
@click.pass_obj
def adopt_store(daemon: DaemonClient, name: str, account: str | None) -> None:
    """Adopt the templates on the image store NAME.

    Takes over those of another cloud, such as CloudStack. Nothing on the store is changed.
    Templates that are known already are skipped.

    \b
    Example:
      systemvm store adopt second
    """
    domain = None
    if account is not None:
        domain = daemon.find("listAccounts", "account", account, "account", listall="true")["domainid"]
    result = daemon.run_job(
        "adoptImageStoreTemplates", id=_find(daemon, name)["id"], account=account, domainid=domain
    )["adoption"]
    if daemon.as_json:
        output.print_json(result)
        return
    click.echo(f"{len(result['adopted'])} templates are adopted, {result['known']} were known.")
    for problem in result["problems"]:
        click.echo(f"not adopted: {problem}")


@store.command("ls")
@click.argument("name")
@click.argument("path", default="")
@click.pass_obj
def list_objects(daemon: DaemonClient, name: str, path: str) -> None:
    """List the directory PATH of the image store NAME.

    \b
    Example:
      systemvm store ls second template/tmpl/2/204
    """
    rows = daemon.records(
        "listImageStoreObjects", "datastoreobject", id=_find(daemon, name)["id"], path=path or None
    )
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "SIZE", "TEMPLATE", "CHANGED"),
        [
            (
                row["name"] + ("/" if row["isdirectory"] else ""),
                "" if row["isdirectory"] else output.format_size(row["size"]),
                row.get("templatename", ""),
                row["lastupdated"],
            )
            for row in rows
        ],
        "The directory is empty.",
    )


@store.command("link")
@click.argument("name")
@click.argument("path")
@click.pass_obj
def link_object(daemon: DaemonClient, name: str, path: str) -> None:
    """Print a temporary link to the file PATH of the image store NAME.

    \b
    Example:
      systemvm store link second template/tmpl/2/204/template.properties
    """
    result = daemon.run_job("downloadImageStoreObject", id=_find(daemon, name)["id"], path=path)
    link = result["downloadimagestoreobjectresponse"]
    if daemon.as_json:
        output.print_json(link)
        return
    click.echo(link["url"])
