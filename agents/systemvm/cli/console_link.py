# SPDX-License-Identifier: Apache-2.0
"""Links to consoles from the daemon, and sessions of the command line's own."""

from __future__ import annotations

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


def create_endpoint(daemon: DaemonClient, machine: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a link to a console.

    Raises: CommandFailedError with the reason why there is none.
    """
    answer = daemon.call("createConsoleEndpoint", virtualmachineid=machine, **parameters)
    return usable(answer["consoleendpoint"])


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
