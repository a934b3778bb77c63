# SPDX-License-Identifier: Apache-2.0
"""Links to consoles from the daemon, and sessions of the command line's own."""

from __future__ import annotations

import os
import socket
import ssl
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from systemvm.cli import output
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.machines import USER_VM
from systemvm.cli.public_trust import trust_for
from systemvm.cli.system_vms import SYSTEM_VM

if TYPE_CHECKING:
    from systemvm.cli.console_client.session import ClientSession


FROM_OPTION = click.option(
    "--from",
    "source",
    metavar="ADDRESS",
    help="The address from which the URL is opened, where the zone checks that. Default: this host's, or "
    "that of your SSH client.",
)


def create_endpoint(
    daemon: DaemonClient, command: str, parameters: dict[str, Any], *, opens_here: bool, source: str | None
) -> dict[str, Any]:
    """Return a link to a console, by `command`.

    A zone can check that a link is opened from the address that asked for it, and the daemon's socket has
    none. Then it is `source`, or this host's own where the link is opened here, or that of the operator's SSH
    client, who most likely opens it there.

    Raises: CommandFailedError with the reason why there is none.
    """
    if source is not None:
        parameters = {**parameters, "clientaddress": source}
    endpoint: dict[str, Any] = daemon.call(command, **parameters)["consoleendpoint"]
    place = endpoint.get("websocket")
    if endpoint["success"] or place is None or source is not None:
        return usable(endpoint)
    found = _own_address(place["host"], int(place["port"])) if opens_here else _ssh_client()
    if found is None:
        return usable(endpoint)
    if not opens_here:
        click.echo(f"[the link works from {found} only; --from names another address]", err=True)
    return usable(daemon.call(command, **parameters, clientaddress=found)["consoleendpoint"])


def _own_address(host: str, port: int) -> str | None:
    """Return this host's address on the way to another one; nothing is sent."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind, protocol) as way:
                way.connect(address)
                return str(way.getsockname()[0])
    except OSError:
        pass
    return None


def _ssh_client() -> str | None:
    return next(iter(os.environ.get("SSH_CONNECTION", "").split()), None)


def usable(endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a link that was made; raise as `create_endpoint`."""
    if not endpoint["success"]:
        raise CommandFailedError(endpoint["details"], endpoint.get("hint", ""))
    return endpoint


def show_link(daemon: DaemonClient, endpoint: dict[str, Any], open_browser: bool) -> None:
    """Print a link, and open it in the desktop's browser if that is asked for."""
    if daemon.as_json:
        output.print_json(endpoint)
    else:
        click.echo(endpoint["url"])
    if open_browser:
        webbrowser.open(endpoint["url"])


def begin_session(daemon: DaemonClient, endpoint: dict[str, Any], cacert: Path | None) -> ClientSession:
    """Spend the token of a link.

    Raises: CommandFailedError with the reason why that opens no console.
    """
    from systemvm.cli.console_client.session import ClientSession, ConsoleLink, ConsoleLinkRefusedError

    link = ConsoleLink.parse(endpoint["url"])
    try:
        return ClientSession.begin(link, trust_for(daemon, endpoint["url"], cacert))
    except ConsoleLinkRefusedError as refused:
        raise CommandFailedError(refused.message, refused.hint) from None
    except ssl.SSLCertVerificationError as error:
        raise CommandFailedError(
            f"certificate of {link.host}:{link.port} cannot be verified: {error.verify_message}",
            "give the root of the console proxies' certificate with --cacert",
        ) from None


def machine_id(daemon: DaemonClient, name: str) -> str:
    """Return the id of a system VM by its name, or of a user's VM by its name or id."""
    system_vms = {row["name"]: row for row in SYSTEM_VM.rows(daemon)}
    return str((system_vms.get(name) or USER_VM.find(daemon, name))["id"])
