# SPDX-License-Identifier: Apache-2.0
"""`systemvm console open`: a console in a browser, in this terminal, or in a VNC viewer."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.console_link import FROM_OPTION, begin_session, create_endpoint, machine_id, show_link
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.cli.terminal import escape_key

#: Directions of the clipboard, and the parameters that forbid the others.
_CLIPBOARD: dict[str, dict[str, Any]] = {
    "both": {},
    "to-guest": {"clipboardfromguest": "false"},
    "from-guest": {"clipboardtoguest": "false"},
    "none": {"clipboardfromguest": "false", "clipboardtoguest": "false"},
}


class EscapeKeyType(click.ParamType[int | None]):
    """A control key, as the byte that it sends."""

    name = "KEY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        try:
            return escape_key.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


_COMMAND = "createConsoleEndpoint"
_SERIAL, _VNC = "With --serial: ", "With --vnc: "
_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--open", "open_it", is_flag=True, help="Open the URL in a browser here, or start the viewer."
    ),
    click.option("--view-only", is_flag=True, help="Show the screen, and take no input."),
    click.option(
        "--clipboard",
        type=click.Choice(_CLIPBOARD),
        default="both",
        show_default=True,
        help="Where text may go by the clipboard. The zone can permit less.",
    ),
    FROM_OPTION,
    click.option("--takeover", is_flag=True, help="Close the VM's other consoles when this one is opened."),
    click.option(
        "--kind",
        type=click.Choice(["screen", "serial"]),
        default="screen",
        show_default=True,
        help="What a URL shows: the VM's screen, or its serial port as a text terminal.",
    ),
    click.option("--serial", is_flag=True, help="Connect the serial port to this terminal; print no URL."),
    click.option("--vnc", is_flag=True, help="Serve the screen to a VNC viewer on this host; print no URL."),
    click.option(
        "--escape",
        type=EscapeKeyType(),
        default=escape_key.DEFAULT,
        show_default=True,
        help=f"{_SERIAL}the key that leaves, such as ^] or ^A, or none.",
    ),
    click.option(
        "--history/--no-history",
        default=None,
        help=f"{_SERIAL}show what the port showed before. Default: on a terminal only.",
    ),
    click.option(
        "--quiet-exit",
        type=click.FloatRange(0),
        default=2.0,
        show_default=True,
        help=f"{_SERIAL}seconds without output after which the console ends when the input has ended.",
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=0,
        help=f"{_VNC}the port of 127.0.0.1. Default: one that is free.",
    ),
    click.option(
        "--socket",
        type=click.Path(path_type=Path),
        help=f"{_VNC}listen at this UNIX socket instead, which only your user can open.",
    ),
    click.option(
        "--viewer",
        default="vncviewer",
        show_default=True,
        help=f"{_VNC}the program that --open starts with the path of a UNIX socket, such as TigerVNC's.",
    ),
    click.option(
        "--cacert",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="With --serial or --vnc: root certificates to trust besides the public CA's and the system's.",
    ),
]


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("open", short_help="Open a console in a browser, this terminal or a VNC viewer.")
@click.argument("name")
@_with_options
@click.pass_obj
def open_console(
    daemon: DaemonClient,
    /,
    name: str,
    open_it: bool,
    view_only: bool,
    clipboard: str,
    takeover: bool,
    kind: str,
    serial: bool,
    vnc: bool,
    cacert: Path | None,
    source: str | None,
    **options: Any,
) -> None:
    """Print a URL that opens the console of the VM NAME, or open it here by --serial or --vnc.

    The URL works once and expires after one minute.

    With --serial the VM's serial port is this terminal: every key goes to the VM, and Ctrl-] leaves. When
    standard input is no terminal, it is sent to its end, and what the VM answers is printed.

    With --vnc any VNC viewer on this host shows the screen: the address and a password for this once are
    printed, and Ctrl-C ends it. --open starts the viewer, with a socket that only your user can open.

    Both have the rights, the time limits and the record of a console in the browser, and come back by
    themselves after a connection was lost. The viewer must then connect again.

    \b
    Examples:
      systemvm console open one --open
      systemvm console open one --kind serial
      systemvm console one --serial
      echo "uptime" | systemvm console one --serial --quiet-exit 5
      systemvm console one --vnc --open
      systemvm console one --vnc --port 5901 --view-only
    """
    if serial and vnc:
        raise click.UsageError("give either --serial or --vnc")
    limits = dict(_CLIPBOARD[clipboard])
    if view_only:
        limits["viewonly"] = "true"
    if takeover:
        limits["takeover"] = "true"
    if serial or (kind != "screen" and not vnc):
        limits["kind"] = "serial"
    if serial or vnc:
        limits["token"] = secrets.token_urlsafe(16)  # a zone can require it
    if vnc:
        _serve_viewer(daemon, name, limits, cacert, open_it, source=source, **options)
        return
    limits = {"virtualmachineid": machine_id(daemon, name)} | limits
    endpoint = create_endpoint(daemon, _COMMAND, limits, opens_here=open_it or serial, source=source)
    if serial:
        _connect_terminal(daemon, endpoint, cacert, **options)
        return
    show_link(daemon, endpoint, open_it)


def _connect_terminal(
    daemon: DaemonClient,
    endpoint: dict[str, Any],
    cacert: Path | None,
    *,
    escape: int | None,
    history: bool | None,
    quiet_exit: float,
    **_: Any,
) -> None:
    from systemvm.cli.terminal import serial_terminal  # asyncio and wsproto cost every command's start

    shows_history = sys.stdout.isatty() if history is None else history
    options = serial_terminal.TerminalOptions(escape, shows_history, quiet_exit)
    raise SystemExit(serial_terminal.run(begin_session(daemon, endpoint, cacert), options))


def _serve_viewer(
    daemon: DaemonClient,
    name: str,
    limits: dict[str, Any],
    cacert: Path | None,
    starts_viewer: bool,
    *,
    source: str | None,
    port: int,
    socket: Path | None,
    viewer: str,
    **_: Any,
) -> None:
    from systemvm.cli.vnc_bridge import bridge
    from systemvm.cli.vnc_bridge.listener import ViewerListener

    if socket is not None and port:
        raise click.UsageError("give either --port or --socket")
    if starts_viewer and shutil.which(viewer) is None:
        raise CommandFailedError(
            f"{viewer} is not installed",
            "install a VNC viewer, such as Debian's tigervnc-viewer, name one with --viewer, or omit --open",
        )
    limits = {"virtualmachineid": machine_id(daemon, name)} | limits
    if socket is not None:
        listener = ViewerListener.at_path(socket)
    elif starts_viewer and not port:
        listener = ViewerListener.private()
    else:
        listener = ViewerListener.at_port(port)

    def show_address() -> None:
        if daemon.as_json:
            output.print_json({"address": listener.address, "password": listener.password})
        elif listener.password is not None or not starts_viewer:
            secret = "" if listener.password is None else f", password {listener.password}"
            click.echo(f"screen of {name}: vncviewer {listener.address}{secret}")
        sys.stdout.flush()

    def say(text: str) -> None:
        click.echo(f"[{text}]", err=True)

    with contextlib.closing(listener):
        endpoint = create_endpoint(daemon, _COMMAND, limits, opens_here=True, source=source)
        session = begin_session(daemon, endpoint, cacert)
        command = [viewer, listener.address] if starts_viewer else None
        raise SystemExit(bridge.run(session, listener, say, show_address, command))
