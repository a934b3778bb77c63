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
