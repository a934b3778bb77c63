# SPDX-License-Identifier: Apache-2.0
"""createConsoleEndpoint."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from twisted.logger import Logger

from systemvm.management.api.answers.access import ConsoleEndpointAnswer, WebSocketAnswer
from systemvm.management.api.command import ApiCall, Command
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.consoles.endpoint import (
    WEBSOCKET_PATH,
    ConsoleEndpoint,
    ConsoleUnavailableError,
    ConsoleUser,
    SourceUnknownError,
    is_address,
)
from systemvm.management.screens.keymap import LAYOUTS
from systemvm.wire.console import UNRESTRICTED, ConsoleKind, ConsolePolicy

_log = Logger()


class ConsoleEndpointCreator(Protocol):
    """Creates console sessions."""

    async def create(
        self, vm_uuid: str, console_user: ConsoleUser, wanted: ConsolePolicy = UNRESTRICTED
    ) -> ConsoleEndpoint: ...


#: Over HTTP the address is that of the call: who could name another one would not be checked at all.
CLIENT_ADDRESS = optional(
    "clientaddress",
    ParameterType.STRING,
    "on the daemon's own socket: the address from which the link is opened, where "
    "novnc.console.sourceip.check.enabled is true; an addition to CloudStack's parameters",
)


class ConsoleCommands:
    """A missing permission or console is not an error but success=false, as in CloudStack."""

    def __init__(self, endpoints: ConsoleEndpointCreator) -> None:
        self._endpoints = endpoints

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "createConsoleEndpoint",
                self._create,
                "Creates a URL that opens a VM's console once, within a minute.",
                ConsoleEndpointAnswer,
                "consoleendpoint",
                parameters=(
                    required("virtualmachineid", ParameterType.UUID, "the virtual machine"),
                    optional(
                        "token",
                        ParameterType.STRING,
                        "an additional secret, which the browser must also present as extra",
                    ),
                    optional(
                        "takeover",
                        ParameterType.BOOLEAN,
                        "true: opening the link closes the VM's other consoles; false: they share its screen",
                    ),
                    optional(
                        "keyboard",
                        ParameterType.STRING,
                        "the guest's layout, for a user with another keyboard; by default the VM's; "
                        "an addition to CloudStack's parameters",
                        choices=tuple(LAYOUTS),
                    ),
                    optional(
                        "viewonly",
                        ParameterType.BOOLEAN,
                        "true: shows the screen, and takes no input; an addition to CloudStack's parameters",
                    ),
                    optional(
                        "clipboardtoguest",
                        ParameterType.BOOLEAN,
                        "false: no text to the guest; an addition to CloudStack's parameters",
                    ),
                    optional(
                        "clipboardfromguest",
                        ParameterType.BOOLEAN,
                        "false: no text from the guest; an addition to CloudStack's parameters",
                    ),
                    optional(
                        "kind",
                        ParameterType.STRING,
                        "screen (the default), or serial: the VM's serial port as a text terminal; "
                        "an addition to CloudStack's parameters",
                    ),
                    CLIENT_ADDRESS,
                ),
                related=("listVirtualMachines", "listSystemVms", "listConsoleSessions"),
            ),
        )

    async def _create(self, call: ApiCall) -> ConsoleEndpointAnswer:
        console_user = user_of(call, takes_over=call.arguments.flag("takeover"), kind=_kind(call))
        wanted = ConsolePolicy(
            view_only=call.arguments.get("viewonly", False),
            clipboard_to_guest=call.arguments.get("clipboardtoguest", True),
            clipboard_from_guest=call.arguments.get("clipboardfromguest", True),
        )
        creating = self._endpoints.create(call.arguments["virtualmachineid"], console_user, wanted)
        return await answer_of(call, creating)


def user_of(
    call: ApiCall, *, takes_over: bool = False, kind: ConsoleKind = ConsoleKind.SCREEN
) -> ConsoleUser:
    """Return who asks for a console."""
    principal = call.principal
    return ConsoleUser(
        principal.user.id,
        principal.account.id,
        principal.is_admin,
        _address_of(call),
        call.request_id,
        principal.login_uuid,
        call.arguments.text("token"),
        takes_over,
        keyboard=call.arguments.text("keyboard"),
        kind=kind,
        beneath=principal.beneath,
    )


def _address_of(call: ApiCall) -> str:
    """Return the address from which the link will be opened, or the name of an operator who named none."""
    named = call.arguments.text("clientaddress")
    if named is None:
        return call.client_address
    if is_address(call.client_address):
        raise parameter_error(
            "clientaddress",
            f"clientaddress cannot be given over HTTP: the link is for {call.client_address}",
            "leave it out, or call the daemon's own socket",
        )
    if not is_address(named):
        raise parameter_error(
            "clientaddress", f"clientaddress must be an address: {named!r}", "give it as 192.0.2.1"
        )
    return named


async def answer_of(call: ApiCall, creating: Awaitable[ConsoleEndpoint]) -> ConsoleEndpointAnswer:
    """Return the answer with a link, or with the reason why there is none."""
    try:
        endpoint = await creating
    except ConsoleUnavailableError as error:
        _log.info(
            "no console for {username}: {details} ({request_id})",
            username=call.principal.user.username,
            details=error.message,
            request_id=call.request_id,
        )
        place = error.endpoint if isinstance(error, SourceUnknownError) else None
        there = None
        if place is not None:
            there = WebSocketAnswer(host=place.host, port=str(place.port), path=WEBSOCKET_PATH)
        return ConsoleEndpointAnswer(
            success=False, details=error.message, hint=error.hint or None, websocket=there
        )
    return ConsoleEndpointAnswer(
        success=True,
        url=endpoint.url,
        websocket=WebSocketAnswer(
            token=endpoint.token,
            host=endpoint.host,
            port=str(endpoint.port),
            path=endpoint.path,
            extra=endpoint.extra,
        ),
    )


def _kind(call: ApiCall) -> ConsoleKind:
    text = call.arguments.text("kind") or ConsoleKind.SCREEN.value
    try:
        return ConsoleKind(text.lower())
    except ValueError:
        raise parameter_error(
            "kind", f"kind must be screen or serial: {text!r}", "leave it out for the VM's screen"
        ) from None
