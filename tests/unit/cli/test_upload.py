# SPDX-License-Identifier: Apache-2.0
"""`template upload` and `iso upload` against a server of tus in memory: breaks, refusals, resumption."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.cli import tus_client
from systemvm.cli.tus_client import TusClient, _Answer
from systemvm.rpc.core.errors import RpcError

ID = "6f2be588-7b5b-4a07-8ec0-0317c1bf4a5d"
IMAGE = bytes(range(256)) * 40
PARAMS = {
    "id": ID,
    "postURL": "http://203.0.113.101/upload/5d3b4d8e-0a6f-4f5c-8f3e-3a2a3f1d9c01",
    "metadata": "bWV0YQ==",
    "expires": "2026-11-29T01:00:00.000Z",
    "signature": "c2ln",
}


class FakeTusServer:
    """What an SSVM answers; `faults` has for each PATCH how much is kept, and then an exception or answer."""

    def __init__(self, received: bytes = b"", length: int | None = None) -> None:
        self.received = received
        self.length = length
        self.methods: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.faults: list[tuple[int, Exception | _Answer]] = []

    def exchange(
        self, client: TusClient, method: str, headers: Mapping[str, str], body: Iterator[bytes] | None
    ) -> _Answer:
        self.methods.append(method)
        self.headers.append(headers)
        if method == "HEAD":
            length = {"upload-length": str(self.length)} if self.length is not None else {}
            return _Answer(200, length | {"upload-offset": str(len(self.received))}, "")
        if method == "POST":
            self.length = int(headers["Upload-Length"])
            return _Answer(201, {}, "")
        if int(headers["Upload-Offset"]) != len(self.received):
            return _Answer(409, {}, "the body begins elsewhere")
        keep, fault = self.faults.pop(0) if self.faults else (None, None)
        sent = b"".join(body or ())
        assert len(sent) == int(headers["Content-Length"])
        self.received += sent[:keep]
        if isinstance(fault, Exception):
            raise fault
        return fault or _Answer(204, {"upload-offset": str(len(self.received))}, "")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeTusServer:
    made = FakeTusServer()
    monkeypatch.setattr(TusClient, "_exchange", lambda client, *call: made.exchange(client, *call))
    monkeypatch.setattr(tus_client, "PIECE_BYTES", 4096)
    monkeypatch.setattr(tus_client, "BLOCK_BYTES", 1024)
    return made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.qcow2"
    path.write_bytes(IMAGE)
    return path


def ready(checksum: str) -> dict[str, Any]:
    return {
        "id": ID, "name": "tiny", "isready": True, "status": "Download Complete", "format": "QCOW2",
        "checksum": checksum,
        "downloaddetails": [{"downloadState": "UPLOADED", "receivedbytes": 1, "totalbytes": 1}],
    }  # fmt: skip


def daemon_with(*, checksum: str | None = None, **answers: Any) -> FakeDaemon:
    row = ready(checksum or hashlib.sha512(IMAGE).hexdigest())
    given: dict[str, Any] = {
        "listZones": {"zone": [{"id": "zone-1"}]},
        "getUploadParamsForTemplate": {"getuploadparams": PARAMS},
        "renewUploadParamsForTemplate": {"getuploadparams": PARAMS},
        "listTemplates": {"template": [row]},
    }
    return FakeDaemon(**(given | answers))


def asked(daemon: FakeDaemon, command: str) -> dict[str, Any]:
    [found] = [params for name, params in daemon.calls if name == command]
    return dict(found)


def test_file_arrives_in_pieces_with_the_signature(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    daemon = daemon_with()
    result = run(daemon, "template", "upload", str(image))
    assert result.exit_code == 0, result.output
    assert server.received == IMAGE and f"tiny is Ready: {ID}" in result.output
    assert server.methods == ["HEAD", "POST", "PATCH", "PATCH", "PATCH"]
    for headers in server.headers:
        signed = (headers["X-signature"], headers["X-metadata"], headers["X-expires"])
        assert signed == ("c2ln", "bWV0YQ==", "2026-11-29T01:00:00.000Z")
        assert headers["Tus-Resumable"] == "1.0.0"
    assert asked(daemon, "getUploadParamsForTemplate") == {
        "name": "tiny", "zoneid": "zone-1", "format": "QCOW2", "hypervisor": "KVM",
    }  # fmt: skip


def test_iso_and_its_name_and_checksum_are_given(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    digest = hashlib.sha256(IMAGE).hexdigest()
    daemon = daemon_with(getUploadParamsForIso={"getuploadparams": PARAMS}, listIsos={"iso": [ready(digest)]})
    result = run(daemon, "iso", "upload", str(image), "--name", "net", "--checksum", digest)
    assert result.exit_code == 0, result.output
    assert asked(daemon, "getUploadParamsForIso") == {
        "name": "net", "zoneid": "zone-1", "format": "ISO", "bootable": "true", "checksum": digest,
    }  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [
        ConnectionResetError("reset"),
        TimeoutError("timed out"),
        _Answer(503, {"retry-after": "5"}, "later"),
        _Answer(423, {}, "another request brings bytes"),
        _Answer(409, {}, "the body begins elsewhere"),
    ],
    ids=["reset", "timeout", "503", "423", "409"],
)
def test_interrupted_upload_goes_on_where_it_was(
    run: Callable[..., Result], server: FakeTusServer, image: Path, fault: Exception | _Answer
) -> None:
    server.faults = [(100, fault), (0, fault), (4000, fault)]
    result = run(daemon_with(), "template", "upload", str(image))
    assert result.exit_code == 0, result.output
    assert server.received == IMAGE and server.methods.count("HEAD") == 4


def test_lost_end_of_the_last_piece_is_no_failure(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    server.received, server.length = IMAGE[:8192], len(IMAGE)
    server.faults = [(len(IMAGE), ConnectionResetError("reset"))]
    result = run(daemon_with(), "template", "upload", str(image))
    assert result.exit_code == 0 and server.methods == ["HEAD", "PATCH", "HEAD"]


def test_upload_that_makes_no_progress_ends_and_says_how_to_go_on(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    server.faults = [(0, ConnectionResetError("reset"))] * 100
    result = run(daemon_with(), "template", "upload", str(image))
    assert result.exit_code == 1 and "does not go on: reset" in result.output
    assert f"template upload {image} --resume {ID}" in result.output


def test_ctrl_c_leaves_an_upload_that_resumes(
    run: Callable[..., Result], server: FakeTusServer, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(client: TusClient, *call: Any) -> _Answer:
        if server.received:
            raise KeyboardInterrupt
        return server.exchange(client, *call)

    monkeypatch.setattr(TusClient, "_exchange", interrupted)
    result = run(daemon_with(), "template", "upload", str(image))
    assert result.exit_code == 1 and "is interrupted" in result.output
    assert f"--resume {ID}" in result.output and server.received == IMAGE[:4096]
    monkeypatch.setattr(TusClient, "_exchange", lambda client, *call: server.exchange(client, *call))
    daemon = daemon_with()
    result = run(daemon, "template", "upload", str(image), "--resume", ID)
    assert result.exit_code == 0, result.output
    assert server.received == IMAGE and asked(daemon, "renewUploadParamsForTemplate") == {"id": ID}


def test_refused_file_ends_with_the_servers_words(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    server.faults = [(10, _Answer(400, {}, "format is RAW, not QCOW2"))]
    result = run(daemon_with(), "template", "upload", str(image))
    assert result.exit_code == 1 and "is refused: format is RAW, not QCOW2" in result.output
    assert server.methods.count("PATCH") == 1


def test_another_file_is_not_sent_behind_the_first(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    server.received, server.length = IMAGE[:4096], len(IMAGE) + 1
    result = run(daemon_with(), "template", "upload", str(image), "--resume", ID)
    assert result.exit_code == 1 and f"{len(IMAGE) + 1} bytes" in result.output
    assert "PATCH" not in server.methods


def test_digests_are_compared_at_the_end(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    result = run(daemon_with(checksum="0" * 128), "template", "upload", str(image))
    assert result.exit_code == 1 and "is not the file that was read" in result.output


def test_untrusted_certificate_is_explained(
    run: Callable[..., Result], image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*call: Any) -> _Answer:
        error = ssl.SSLCertVerificationError("certificate verify failed")
        error.verify_message = "unable to get local issuer certificate"
        raise error

    monkeypatch.setattr(TusClient, "_exchange", refused)
    monkeypatch.setattr(
        "systemvm.cli.upload.trust_for", lambda daemon, url, cacert: ssl.create_default_context()
    )
    params = PARAMS | {"postURL": "https://203.0.113.101/upload/x"}
    daemon = daemon_with(getUploadParamsForTemplate={"getuploadparams": params})
    result = run(daemon, "template", "upload", str(image))
    assert result.exit_code == 1
    assert "certificate of 203.0.113.101 cannot be verified: unable to get" in result.output
    assert "--cacert" in result.output


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("a.qcow2.gz", (), "QCOW2"),
        ("a.img", ("--format", "RAW"), "RAW"),
        ("a.vhdx", (), "VHDX"),
        ("a.img", (), None),
        ("a", (), None),
    ],
)
def test_format_is_the_files_or_given(
    run: Callable[..., Result], server: FakeTusServer, tmp_path: Path, name: str, options: tuple[str, ...],
    wanted: str | None,
) -> None:  # fmt: skip
    (tmp_path / name).write_bytes(IMAGE)
    daemon = daemon_with()
    result = run(daemon, "template", "upload", str(tmp_path / name), *options)
    if wanted is None:
        assert result.exit_code == 1 and "give --format" in result.output
        assert not any("Upload" in name for name, _ in daemon.calls)
    else:
        assert asked(daemon, "getUploadParamsForTemplate")["format"] == wanted


def test_json_is_printed_without_a_progress_bar(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    result = run(daemon_with(), "--json", "template", "upload", str(image))
    assert json.loads(result.output)["id"] == ID


def test_refusal_of_the_daemon_is_shown(run: Callable[..., Result], image: Path) -> None:
    daemon = daemon_with(getUploadParamsForTemplate=RpcError.refused("534", "no SSVM is Up", "wait"))
    result = run(daemon, "template", "upload", str(image))
    assert result.exit_code == 1 and "no SSVM is Up" in result.output and "--resume" not in result.output


def test_a_file_becomes_a_volume(run: Callable[..., Result], server: FakeTusServer, image: Path) -> None:
    states = [{"volume": [{"id": ID, "name": "data", "state": s}]} for s in ("NotUploaded", "Uploaded")]
    daemon = daemon_with(
        getUploadParamsForVolume={"getuploadparams": PARAMS},
        listVolumes=states,
    )
    result = run(daemon, "volume", "upload", str(image), "--name", "data")
    assert result.exit_code == 0, result.output
    assert server.received == IMAGE and f"data is Uploaded: {ID}" in result.output
    wanted = {"name": "data", "zoneid": "zone-1", "format": "QCOW2"}
    assert asked(daemon, "getUploadParamsForVolume") == wanted


def test_a_volume_that_is_refused_has_its_reason(
    run: Callable[..., Result], server: FakeTusServer, image: Path
) -> None:
    event = {"resourceid": ID, "description": "data failed to upload: it is not an image"}
    daemon = daemon_with(
        renewUploadParamsForVolume={"getuploadparams": PARAMS},
        listVolumes={"volume": [{"id": ID, "name": "data", "state": "UploadError"}]},
        listEvents={"event": [{"resourceid": "other", "description": "-"}, event]},
    )
    result = run(daemon, "volume", "upload", str(image), "--resume", ID)
    assert result.exit_code == 1 and "data failed to upload: it is not an image" in result.output
    assert f'run "systemvm volume delete {ID}"' in result.output
