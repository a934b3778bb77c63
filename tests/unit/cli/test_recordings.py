# SPDX-License-Identifier: Apache-2.0
"""`systemvm console record|recordings|play|export|delete-recording`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.recording.reader import RecordingReader

MACHINE = {"id": "m-1", "name": "web", "state": "Running"}
ROW = {
    "id": "r-1", "virtualmachinename": "web", "user": "ulla", "created": "2026-11-29T08:00:00+0000",
    "kind": "serial", "state": "Incomplete", "endcode": "spool_full", "size": 12_345,
}  # fmt: skip
ACCESS = {"consolerecordingaccess": {"id": "r-1", "url": "https://cloud/recordings.html?id=r-1"}}


def daemon(**answers: Any) -> FakeDaemon:
    return FakeDaemon(listSystemVms={}, listVirtualMachines={"virtualmachine": [MACHINE]}, **answers)


def content(data: bytes) -> dict[str, Any]:
    return {"consolerecordingcontent": {"data": base64.b64encode(data).decode()}}


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("web", "on"), {"record": "on", "virtualmachineid": "m-1"}),
        (
            ("--account", "ulla", "--domain", "d-1", "required"),
            {"record": "required", "account": "ulla", "domainid": "d-1"},
        ),
    ],
)
def test_a_rule_is_set(run: Callable[..., Result], arguments: tuple[str, ...], rule: dict[str, str]) -> None:
    fake = daemon(setConsoleRecordingRule={})
    result = run(fake, "console", "record", *arguments)
    assert result.exit_code == 0 and rule["record"] in result.output
    assert fake.calls[-1] == ("setConsoleRecordingRule", rule)


def test_rules_are_listed(run: Callable[..., Result]) -> None:
    rules = [{"record": "off", "virtualmachinename": "web"}, {"record": "required", "account": "ulla"}]
    fake = daemon(listConsoleRecordingRules={"consolerecordingrule": rules})
    output = run(fake, "console", "record").output
    assert "web" in output and "ulla" in output and "required" in output


@pytest.mark.parametrize("arguments", [("web",), ("--account", "ulla", "sometimes"), ("web", "sometimes")])
def test_a_rule_without_a_mode_is_wrong_usage(run: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    assert run(daemon(), "console", "record", *arguments).exit_code == 2


def test_recordings_are_listed_with_why_they_ended(run: Callable[..., Result]) -> None:
    fake = daemon(listConsoleRecordings={"consolerecording": [ROW]})
    output = run(fake, "console", "recordings", "--vm", "web").output
    assert "Incomplete: spool_full" in output and "serial" in output and "ulla" in output and "r-1" in output
    assert fake.calls[-1] == ("listConsoleRecordings", {"virtualmachineid": "m-1"})


def test_a_recording_is_played_on_the_page(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    result = run(daemon(openConsoleRecording=ACCESS), "console", "play", "r-1", "--open")
    assert result.output.strip() == ACCESS["consolerecordingaccess"]["url"] == opened[0]


def test_the_recording_itself_is_written(run: Callable[..., Result], tmp_path: Path) -> None:
    fake = daemon(
        openConsoleRecording=ACCESS,
        readConsoleRecording=[content(b"SVCONREC"), content(b" and more"), content(b"")],
    )
    file = tmp_path / "web.svrec"
    result = run(fake, "console", "export", "r-1", str(file))
    assert result.exit_code == 0, result.output
    assert file.read_bytes() == b"SVCONREC and more"
    offsets = [params["offset"] for method, params in fake.calls if method == "readConsoleRecording"]
    assert offsets == [0, 8, 17]


def test_a_video_is_made_with_the_key_of_the_recording(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from systemvm.recording.format import RecordingHeader
    from systemvm.recording.writer import RecordingWriter

    key = bytes(range(32))
    writer = RecordingWriter(RecordingHeader(4, 2, bytes(16), 0, "web"), key)
    data = writer.begin + writer.end(2000)
    access = {"consolerecordingaccess": {**ACCESS["consolerecordingaccess"], "key": key.hex()}}
    fake = daemon(openConsoleRecording=access, readConsoleRecording=[content(data), content(b"")])
    exported: list[tuple[int, Path]] = []

    def export(reader: RecordingReader, file: Path) -> None:
        exported.append((reader.duration_ms, file))
        file.write_bytes(b"video")

    monkeypatch.setattr("systemvm.cli.recording_video.export", export)
    file = tmp_path / "web.mp4"
    result = run(fake, "console", "export", "r-1", str(file))
    assert result.exit_code == 0, result.output
    assert exported == [(2000, file)]


def serial_recording() -> bytes:
    from systemvm.recording.format import RecordingHeader, RecordingKind
    from systemvm.recording.writer import RecordingWriter

    writer = RecordingWriter(RecordingHeader(80, 24, bytes(16), 0, "web", kind=RecordingKind.SERIAL))
    return writer.begin + writer.server(500, b"login: root\r\n") + writer.end(2000)


@pytest.mark.parametrize(
    ("name", "written"), [("web.txt", "login: root\n"), ("web.cast", '[0.5, "o", "login: root\\r\\n"]\n')]
)
def test_what_a_serial_port_wrote_is_exported_as_text(
    run: Callable[..., Result], tmp_path: Path, name: str, written: str
) -> None:
    answers = [content(serial_recording()), content(b"")]
    fake = daemon(openConsoleRecording=ACCESS, readConsoleRecording=answers)
    result = run(fake, "console", "export", "r-1", str(tmp_path / name))
    assert result.exit_code == 0, result.output
    assert (tmp_path / name).read_text().endswith(written)


def test_a_serial_port_makes_no_video(run: Callable[..., Result], tmp_path: Path) -> None:
    answers = [content(serial_recording()), content(b"")]
    fake = daemon(openConsoleRecording=ACCESS, readConsoleRecording=answers)
    result = run(fake, "console", "export", "r-1", str(tmp_path / "web.mp4"))
    assert result.exit_code == 1 and ".cast" in result.output
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_recording_is_an_error(run: Callable[..., Result], tmp_path: Path) -> None:
    fake = daemon(openConsoleRecording=ACCESS, readConsoleRecording=[content(b"junk"), content(b"")])
    result = run(fake, "console", "export", "r-1", str(tmp_path / "web.mp4"))
    assert result.exit_code == 1 and "not a recording" in result.output


def test_a_recording_is_deleted(run: Callable[..., Result]) -> None:
    fake = daemon(deleteConsoleRecording={"success": True})
    assert run(fake, "console", "delete-recording", "r-1").exit_code == 0
    assert fake.calls == [("deleteConsoleRecording", {"id": "r-1"})]
