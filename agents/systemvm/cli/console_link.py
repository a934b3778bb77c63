# SPDX-License-Identifier: Apache-2.0
"""Links to consoles from the daemon, and sessions of the command line's own."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.public_trust import trust_for

if TYPE_CHECKING:
    from systemvm.cli.console_client.session import ClientSession

CACERT_HELP = "With --serial: root certificates to trust besides the public CA's and the system's."


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
