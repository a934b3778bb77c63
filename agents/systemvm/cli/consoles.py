# SPDX-License-Identifier: Apache-2.0
"""`systemvm console`: consoles in a browser, and a VM's screen and keyboard for scripts."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import click

from systemvm.cli import output
from systemvm.cli.console_link import FROM_OPTION, create_endpoint, machine_id, show_link
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient

#: Typed by one call, in about ten seconds; the daemon takes 2,000.
_TEXT_CHARACTERS = 500
_REGION_HELP = "Only this region, in pixels: X,Y,WIDTH,HEIGHT."


class ConsoleGroup(click.Group):
    """`systemvm console VM` is `systemvm console open VM`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["open", *args]
        return super().parse_args(ctx, args)


class RegionType(click.ParamType[dict[str, int]]):
    """A part of a screen, as the parameters that the daemon takes."""

    name = "X,Y,WIDTH,HEIGHT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        try:
            x, y, width, height = (int(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not four numbers such as 0,0,640,16", param, ctx)
        return {"x": x, "y": y, "width": width, "height": height}


@click.group(cls=ConsoleGroup, short_help="Open the console of a VM; see its screen and type, for scripts.")
def console() -> None:
    """Open the console of a VM in a browser, or use its screen and keyboard in a script.

    "systemvm console VM" is short for "systemvm console open VM".

    \b
    Examples:
      systemvm console one
      systemvm console one --serial
      systemvm console one --vnc --open
      systemvm console list
      systemvm console watch one
      systemvm console screenshot one one.png
      systemvm console type one "root"
      systemvm console keys one ctrl+alt+delete
    """


@console.command(short_help="Watch the console that somebody has open.")
@click.argument("name", metavar="SESSION|VM")
@click.option("--open", "open_browser", is_flag=True, help="Open the URL in this desktop's browser.")
@FROM_OPTION
@click.pass_obj
def watch(daemon: DaemonClient, name: str, open_browser: bool, source: str | None) -> None:
    """Print a URL that shows an open console, without input, until that console ends.

    SESSION is an ID that "systemvm console list" prints; VM is the name of a VM with one open console. The
    URL works once. The user is told, unless the zone's setting consoleproxy.supervision.notice.enabled is
    false.

    \b
    Example:
      systemvm console watch one --open
    """
    sessions = {row["id"] for row in daemon.records("listConsoleSessions", "consolesession")}
    which: dict[str, Any] = {"id": name}
    if name not in sessions:
        which = {"virtualmachineid": machine_id(daemon, name)}
    command = "watchConsoleSession"
    endpoint = create_endpoint(daemon, command, which, opens_here=open_browser, source=source)
    show_link(daemon, endpoint, open_browser)


@console.command("list", short_help="List the consoles that are open.")
@click.option("--all", "show_all", is_flag=True, help="Also those that have ended.")
@click.pass_obj
def list_sessions(daemon: DaemonClient, show_all: bool) -> None:
    """List the consoles that are open: who has which VM open, from where.

    \b
    Example:
      systemvm console list --all
    """
    which = {"activeonly": "false", "acquired": "true"} if show_all else {}
    rows = daemon.records("listConsoleSessions", "consolesession", **which)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("VM", "USER", "FROM", "STATE", "SENT", "RECEIVED", "ID"),
        [
            (
                row["virtualmachinename"],
                row["user"],
                row.get("clientaddress"),
                _session_state(row),
                output.format_size(row["sentbytes"]),
                output.format_size(row["receivedbytes"]),
                row["id"],
            )
            for row in rows
        ],
        "No console is open.",
    )


def _session_state(row: dict[str, Any]) -> str:
    if row.get("removed"):
        return str(row.get("closecode") or "ended")
    state = {True: "connected", False: "waits for its browser", None: "open"}[row.get("connected")]
    return f"{state}, watches" if row.get("watches") else state


@console.command("close", short_help="Close a console that is open.")
@click.argument("session", metavar="ID")
@click.pass_obj
def close_session(daemon: DaemonClient, session: str) -> None:
    """Close the console with ID, as "systemvm console list" prints it. Its user is told.

    \b
    Example:
      systemvm console close 8a7b6c5d-0000-4000-8000-000000000001
    """
    daemon.call("endConsoleSession", id=session)
    click.echo(f"Console {session} is closed.")


@console.command(short_help="Write the screen of a VM to a PNG file.")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path), required=False)
@click.option("--region", type=RegionType(), help=f"{_REGION_HELP} Its hash is printed, for wait.")
@click.pass_obj
def screenshot(daemon: DaemonClient, name: str, file: Path | None, region: dict[str, int] | None) -> None:
    """Write the screen of the VM NAME to the PNG file FILE, and print the hash of what it shows.

    Without FILE, the picture is written to NAME.png.

    \b
    Examples:
      systemvm console screenshot one
      systemvm console screenshot one login.png --region 0,0,640,16
    """
    answer = daemon.call("createConsoleScreenshot", virtualmachineid=machine_id(daemon, name), **region or {})
    screen = answer["consolescreenshot"]
    file = file or Path(f"{name}.png")
    try:
        file.write_bytes(base64.b64decode(screen.pop("image")))
    except OSError as error:
        raise CommandFailedError(
            f"cannot write {file}: {error.strerror}", "name another file after the VM"
        ) from None
    if daemon.as_json:
        output.print_json(screen | {"file": str(file)})
    else:
        click.echo(f"{file}: {screen['width']}x{screen['height']} pixels, hash {screen['hash']}")


@console.command("type")
@click.argument("name")
@click.argument("text")
@click.option(
    "--keyboard", help="The keyboard layout of the guest, such as de or fr-be. Default: the VM's, else us."
)
@click.option("--enter/--no-enter", default=True, show_default=True, help="Press Enter afterwards.")
@click.pass_obj
def type_text(daemon: DaemonClient, name: str, text: str, keyboard: str | None, enter: bool) -> None:
    """Type TEXT on the keyboard of the VM NAME. With - as TEXT, read it from standard input.

    \b
    Examples:
      systemvm console type one "mount /dev/cdrom /mnt"
      systemvm console type one - --keyboard de --no-enter < password
    """
    machine = machine_id(daemon, name)
    if text == "-":
        text = sys.stdin.read().rstrip("\n")
    text += "\n" if enter else ""
    for start in range(0, len(text), _TEXT_CHARACTERS):
        part = text[start : start + _TEXT_CHARACTERS]
        daemon.call("typeConsoleText", virtualmachineid=machine, text=part, keyboard=keyboard)


@console.command(short_help="Press keys of a VM.")
@click.argument("name")
@click.argument("keys", nargs=-1, required=True)
@click.pass_obj
def keys(daemon: DaemonClient, name: str, keys: tuple[str, ...]) -> None:
    """Press KEYS of the VM NAME, one after another; those joined by + together.

    \b
    Examples:
      systemvm console keys one ctrl+alt+delete
      systemvm console keys one down down enter
    """
    daemon.call("sendConsoleKeys", virtualmachineid=machine_id(daemon, name), keys=" ".join(keys))


@console.command("read", short_help="Print what is written on the screen of a VM.")
@click.argument("name")
@click.option("--region", type=RegionType(), help=_REGION_HELP)
@click.pass_obj
def read_text(daemon: DaemonClient, name: str, region: dict[str, int] | None) -> None:
    """Print what is written on the screen of the VM NAME, as far as it can be read.

    \b
    Example:
      systemvm console read one --region 0,0,640,32
    """
    answer = daemon.call("readConsoleText", virtualmachineid=machine_id(daemon, name), **region or {})
    found = answer["consolescreentext"]
    if daemon.as_json:
        output.print_json(found)
    else:
        click.echo(found["text"])


@console.command(short_help="Wait until the screen of a VM shows a picture or a text.")
@click.argument("name")
@click.argument("digest", metavar="[HASH]", required=False)
@click.option("--text", help="Wait for this text; case, blanks and letters that look alike do not matter.")
@click.option("--changed", is_flag=True, help="Wait until the screen shows something else than HASH.")
@click.option("--region", type=RegionType(), help=f"{_REGION_HELP} The one of HASH.")
@click.option("--timeout", type=click.IntRange(1, 7200), default=300, show_default=True, help="Seconds.")
@click.pass_obj
def wait(
    daemon: DaemonClient,
    name: str,
    digest: str | None,
    text: str | None,
    changed: bool,
    region: dict[str, int] | None,
    timeout: int,
) -> None:
    """Wait until the screen of the VM NAME shows a text, or what had HASH at "systemvm console screenshot".

    Exit code 1 when it does not in time.

    \b
    Examples:
      systemvm console wait one --text "login:"
      systemvm console wait one 9f86d081… --region 0,0,640,16
    """
    if (digest is None) == (text is None):
        raise click.UsageError("give HASH or --text TEXT")
    if text is not None and changed:
        raise click.UsageError("--changed needs HASH")
    wanted: dict[str, Any] = {"timeout": timeout, **(region or {})}
    wanted |= {"hash": digest, "changed": changed} if text is None else {"text": text}
    command = "waitForConsoleImage" if text is None else "waitForConsoleText"
    [result] = daemon.run_job(command, virtualmachineid=machine_id(daemon, name), **wanted).values()
    if daemon.as_json:
        output.print_json(result)
    else:
        click.echo(result["hash" if text is None else "text"])
