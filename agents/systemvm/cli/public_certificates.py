# SPDX-License-Identifier: Apache-2.0
"""`systemvm certificate public`: what browsers see at console proxies and secondary storage VMs."""

from __future__ import annotations

from pathlib import Path

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import DaemonClient

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("public", short_help="Manage the certificates that browsers see.")
def public() -> None:
    """Manage the certificates that browsers see at console proxies and secondary storage VMs.

    \b
    Example:
      systemvm certificate public list
    """


@public.command("upload")
@click.argument("domain")
@click.option(
    "--certificate",
    "certificate_file",
    type=_FILE,
    required=True,
    help="The certificate, or it and its chain.",
)
@click.option("--key", "key_file", type=_FILE, required=True, help="Its private key, PKCS#8.")
@click.option("--chain", "chain_files", type=_FILE, multiple=True, help="More of its chain.")
@click.pass_obj
def upload(
    daemon: DaemonClient,
    domain: str,
    certificate_file: Path,
    key_file: Path,
    chain_files: tuple[Path, ...],
) -> None:
    """Use a certificate for the names of DOMAIN. Open consoles and transfers go on.

    It is checked first: nothing changes when it is refused. Set the name, too, if it is not that of the
    zone's file.

    \b
    Example: each console proxy by its address, such as 203-0-113-9.console.example.org
      systemvm certificate public upload console.example.org --certificate fullchain.pem --key privkey.pem
      systemvm setting set consoleproxy.url.domain '*.console.example.org'
    """
    chain = "\n".join(path.read_text().strip() for path in (certificate_file, *chain_files))
    result = daemon.run_job(
        "uploadCustomCertificate",
        certificate=chain,
        privatekey=key_file.read_text(),
        domainsuffix=domain.removeprefix("*."),
    )
    click.echo(result["customcertificate"]["message"])


@public.command("list")
@click.pass_obj
def list_certificates(daemon: DaemonClient) -> None:
    """List the certificates that were uploaded or ordered, and the names that they serve.

    \b
    Example:
      systemvm certificate public list
    """
    rows = daemon.records("listCustomCertificates", "customcertificate")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("DOMAIN", "SOURCE", "UNTIL", "NAMES", "SERVES"),
        [
            (
                row["domainsuffix"],
                row["source"],
                row["expires"],
                " ".join(row["names"]) or row["name"],
                " ".join(row["inuse"]),
            )
            for row in rows
        ],
        "There is none: the CA of this installation signs. See systemvm ca show.",
    )


@public.command("names")
@click.pass_obj
def list_names(daemon: DaemonClient) -> None:
    """List the names of consoles, images and the page, and the certificates that browsers see there.

    Lines below a name say what is wrong with its certificate, or why an ACME server did not issue one, and
    what to do.

    \b
    Example:
      systemvm certificate public names
    """
    rows = daemon.records("listPublicNames", "publicname")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("NAME", "SERVICE", "ZONE", "SOURCE", "STATE", "UNTIL", "ACME", "USED BY"),
        [
            (
                row["name"],
                row["service"],
                row.get("zonename", ""),
                row.get("source", ""),
                row["state"],
                row.get("expires", ""),
                row.get("acmestate", ""),
                " ".join(row["systemvms"]),
            )
            for row in rows
        ],
        "There is none: a proxy in front has every certificate.",
    )
    for row in rows:
        for reason, hint in (("reason", "hint"), ("acmereason", "acmehint")):
            if row.get(reason):
                text = "; ".join(filter(None, (row[reason], row.get(hint))))
                click.echo(f"{row.get('wantedname') or row['name']}: {text}")


@public.command("renew")
@click.argument("name")
@click.option("--service", help="console, secondarystorage or page, when several have this name.")
@click.pass_obj
def renew(daemon: DaemonClient, name: str, service: str | None) -> None:
    """Renew the certificate of NAME now: order one from its ACME server, sign one, or read the files again.

    \b
    Example:
      systemvm certificate public renew console.example.org
    """
    rows = daemon.records("listPublicNames", "publicname", service=service)
    found = [row for row in rows if name in (row["id"], row["name"], row.get("wantedname"))]
    if not found:
        names = ", ".join(sorted({row.get("wantedname") or row["name"] for row in rows}))
        raise click.ClickException(f"there is no name {name}; there are: {names}")
    for row in found:
        daemon.run_job("renewPublicCertificate", id=row["id"])
        click.echo(f"the certificate of {row.get('wantedname') or row['name']} is renewed.")


@public.command("remove")
@click.argument("domain")
@click.pass_obj
def remove(daemon: DaemonClient, domain: str) -> None:
    """Remove the certificates of DOMAIN with their keys. The CA of this installation signs again.

    \b
    Example:
      systemvm certificate public remove console.example.org
    """
    daemon.call("deleteCustomCertificate", domainsuffix=domain.removeprefix("*."))
    click.echo(f"the certificates of {domain} are removed.")


@public.command("register-acme")
@click.argument("directory")
@click.argument("kid")
@click.option(
    "--hmac-key", "key_file", type=_FILE, required=True, help="File with the HMAC key as base64url."
)
@click.option("--contact", help="E-mail address for the server.")
@click.pass_obj
def register_acme(
    daemon: DaemonClient, directory: str, kid: str, key_file: Path, contact: str | None
) -> None:
    """Register the account of the ACME server at DIRECTORY with the external account KID that it requires.

    The HMAC key is used once and not stored.

    \b
    Example:
      systemvm certificate public register-acme https://acme.example.org/directory me --hmac-key hmac.txt
    """
    answer = daemon.call(
        "registerAcmeAccount",
        directoryurl=directory,
        eabkid=kid,
        eabhmackey=key_file.read_text().strip(),
        contact=contact,
    )
    click.echo(answer["displaytext"])
