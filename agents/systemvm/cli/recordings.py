# SPDX-License-Identifier: Apache-2.0
"""`systemvm console record|recordings|play|export|delete-recording`."""

from __future__ import annotations

import base64
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click

from systemvm.cli import output, recorded_terminal
from systemvm.cli.console_link import machine_id
from systemvm.cli.daemon_client import CommandFailedError, DaemonClient
from systemvm.recording.format import RecordingError, RecordingKind
from systemvm.recording.reader import RecordingReader

_MODES = ("on", "off", "required", "inherit")
_ORIGINAL = ".svrec"


@click.command(short_help="Say whether the consoles of a VM or an account are recorded.")
@click.argument("name", required=False)
@click.argument("mode", type=click.Choice(_MODES), required=False)
@click.option("--account", help="Set it for all VMs of this account; MODE is the only argument then.")
@click.option("--domain", "domain_id", help="The id of the account's domain.")
@click.pass_obj
def record(
    daemon: DaemonClient, name: str | None, mode: str | None, account: str | None, domain_id: str | None
) -> None:
    """Set whether new consoles of the VM NAME are recorded: on, off, required or inherit.

    With "required" there is no console without a recording. With "inherit" the account of the VM decides, or
    else the zone. Without arguments, list the VMs and accounts with a rule of their own.

    \b
    Examples:
      systemvm console record web on
      systemvm console record --account ulla --domain 5b1b… required
      systemvm console record
      systemvm setting set consoleproxy.recording.enabled true
    """
    rule: dict[str, Any]
    if account is not None:
        mode, name = (mode or name), None
        if mode not in _MODES:
            raise click.UsageError(f"MODE is not one of {', '.join(_MODES)}")
        rule = {"account": account, "domainid": domain_id}
    elif name is None:
        _list_rules(daemon)
        return
    elif mode is None:
        raise click.UsageError(f"MODE is missing: {', '.join(_MODES)}")
    else:
        rule = {"virtualmachineid": machine_id(daemon, name)}
    daemon.call("setConsoleRecordingRule", record=mode, **rule)
    click.echo(f"New consoles of {account or name} are recorded: {mode}.")


def _list_rules(daemon: DaemonClient) -> None:
    rows = daemon.records("listConsoleRecordingRules", "consolerecordingrule")
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("VM", "ACCOUNT", "RECORD"),
        [(row.get("virtualmachinename"), row.get("account"), row["record"]) for row in rows],
        "All VMs and accounts follow the settings of their zone.",
    )


@click.command(short_help="List the recordings of consoles.")
@click.option("--vm", "name", help="Only those of this VM.")
@click.pass_obj
def recordings(daemon: DaemonClient, name: str | None) -> None:
    """List the recordings of consoles, the newest first.

    \b
    Example:
      systemvm console recordings --vm web
    """
    which = {} if name is None else {"virtualmachineid": machine_id(daemon, name)}
    rows = daemon.records("listConsoleRecordings", "consolerecording", **which)
    if daemon.as_json:
        output.print_json(rows)
        return
    output.print_table(
        ("VM", "KIND", "USER", "BEGUN", "STATE", "SIZE", "ID"),
        [
            (
                row["virtualmachinename"],
                row.get("kind", "screen"),
                row["user"],
                row["created"],
                row["state"]
                if row.get("endcode") in (None, "complete")
                else f"{row['state']}: {row['endcode']}",
                output.format_size(row["size"]),
                row["id"],
            )
            for row in rows
        ],
        "There is no recording.",
    )


@click.command(short_help="Play a recording in a browser.")
@click.argument("recording", metavar="ID")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in this desktop's browser.")
@click.pass_obj
def play(daemon: DaemonClient, recording: str, open_browser: bool) -> None:
    """Print the address of the page that plays the recording ID.

    \b
    Example:
      systemvm console play 8a7b6c5d-0000-4000-8000-000000000001 --open
    """
    url = daemon.call("openConsoleRecording", id=recording)["consolerecordingaccess"]["url"]
    click.echo(url)
    if open_browser:
        webbrowser.open(url)


@click.command("export", short_help="Write a recording to a video or text file.")
@click.argument("recording", metavar="ID")
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path))
@click.pass_obj
def export_recording(daemon: DaemonClient, recording: str, file: Path) -> None:
    """Write the recording ID to FILE, in the format that its ending says.

    \b
      .mp4, .webm   a video of a screen
      .cast         a serial port with its times, for asciinema's players
      .txt          what a serial port wrote, as plain text
      .svrec        the recording itself

    Videos are made by ffmpeg (apt-get install ffmpeg). The recording itself stays encrypted if it is.

    \b
    Examples:
      systemvm console export 8a7b6c5d-0000-4000-8000-000000000001 web.mp4
      systemvm console export 8a7b6c5d-0000-4000-8000-000000000002 boot.cast
    """
    access = daemon.call("openConsoleRecording", id=recording)["consolerecordingaccess"]
    key = bytes.fromhex(access["key"]) if access.get("key") else None
    try:
        if file.suffix == _ORIGINAL:
            with file.open("wb") as copy:
                size_bytes = _download(daemon, recording, copy)
            click.echo(f"{file}: {output.format_size(size_bytes)}")
            return
        with tempfile.TemporaryFile() as copy:
            size_bytes = _download(daemon, recording, copy)
            _export(RecordingReader(_reading(copy), size_bytes, key), file)
    except RecordingError as error:
        raise CommandFailedError(error.message, error.hint) from None
    except OSError as error:
        raise CommandFailedError(
            f"cannot write {file}: {error.strerror}", "name another file after the recording"
        ) from None
    click.echo(f"{file}: {output.format_size(file.stat().st_size)}")


@click.command("delete-recording", short_help="Delete a recording of a console.")
@click.argument("recording", metavar="ID")
@click.pass_obj
def delete_recording(daemon: DaemonClient, recording: str) -> None:
    """Delete the recording ID.

    \b
    Example:
      systemvm console delete-recording 8a7b6c5d-0000-4000-8000-000000000001
    """
    daemon.call("deleteConsoleRecording", id=recording)
    click.echo(f"Recording {recording} is deleted.")


def _export(reader: RecordingReader, file: Path) -> None:
    text = recorded_terminal.FORMATS.get(file.suffix.lower())
    if text is not None:
        lines = text(reader)
        first = next(lines, "")  # a recording that has no text leaves no file
        with file.open("w", encoding="utf-8", newline="") as written:
            written.write(first)
            written.writelines(lines)
        return
    if reader.header.kind is RecordingKind.SERIAL:
        raise RecordingError(
            f"recording shows a serial port and cannot be exported to {file.suffix or file.name}",
            f"name a file that ends in {', '.join(recorded_terminal.FORMATS)} or {_ORIGINAL}",
        )
    from systemvm.cli.recording_video import export as export_video  # Pillow: other commands start without it

    export_video(reader, file)


def _download(daemon: DaemonClient, recording: str, file: IO[bytes]) -> int:
    """Write all that is stored of a recording to a file; return how many bytes."""
    offset = 0
    while True:
        answer: dict[str, Any] = daemon.call("readConsoleRecording", id=recording, offset=offset)
        data = base64.b64decode(answer["consolerecordingcontent"]["data"])
        if not data:
            file.flush()
            return offset
        file.write(data)
        offset += len(data)


def _reading(file: IO[bytes]) -> Callable[[int, int], bytes]:
    def read(offset: int, count: int) -> bytes:
        file.seek(offset)
        return file.read(count)

    return read


COMMANDS = (record, recordings, play, export_recording, delete_recording)
