# SPDX-License-Identifier: Apache-2.0
"""Why there is no link to an image: no SSVM, one that is too old, or one that refused."""

from __future__ import annotations

from systemvm.management.templates.public_servers import PublicServer
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.service.errors import FailureCode, SystemVmError


class ExtractionError(SystemVmError):
    """An image to which there can be no link now."""

    code = FailureCode.UNAVAILABLE


def no_ssvm() -> ExtractionError:
    """Return the error for a zone without an SSVM that is Up."""
    return ExtractionError(
        "Images can be downloaded in a few minutes. Please try again later.",
        'No secondary storage VM of the zone is Up; see "systemvm system-vm list" for the reason.',
    )


def no_links(servers: list[PublicServer]) -> ExtractionError:
    """Return the error for a zone of which all SSVMs are of an image from before links."""
    names = ", ".join(server.name for server in servers)
    return ExtractionError(
        f"Images cannot be downloaded: the image of {names} is too old to serve them.",
        f'restart {names} by "systemvm system-vm reboot": it starts from the newest image',
    )


def refused_by(error: RpcError) -> ExtractionError:
    """Return the error for a link that an SSVM refused."""
    return ExtractionError(_message_of(error), _hint_of(error))


def _message_of(error: RpcError) -> str:
    if error.code == METHOD_NOT_FOUND:
        return "the secondary storage VM cannot serve links"
    return f"the secondary storage VM cannot serve the link: {error.message}"


def _hint_of(error: RpcError) -> str:
    return error.hint or "destroy the secondary storage VM: the daemon creates one from the current image"
