# SPDX-License-Identifier: Apache-2.0
"""`systemvm template` and `systemvm iso`."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from fake_daemon import FakeDaemon
from systemvm.rpc.core.errors import RpcError

READY = {
    "id": "t-1", "name": "tiny", "format": "QCOW2", "isready": True, "status": "Download Complete",
    "downloaddetails": [{"downloadState": "DOWNLOADED", "downloadPercent": "100"}],
}  # fmt: skip
MOVING = READY | {
    "isready": False, "status": "41% Downloaded",
    "downloaddetails": [{"downloadState": "DOWNLOAD_IN_PROGRESS", "downloadPercent": "41"}],
}  # fmt: skip
FAILED = READY | {
    "isready": False, "status": "The server answered 404 Not Found.", "hint": "Check the URL.",
    "downloaddetails": [{"downloadState": "DOWNLOAD_ERROR", "downloadPercent": "0"}],
}  # fmt: skip
BROKEN_OFF = {
    "downloadState": "DOWNLOAD_ERROR", "downloadPercent": "41",
    "receivedbytes": 41 << 20, "totalbytes": 100 << 20,
}  # fmt: skip
WAITING = READY | {
    "isready": False, "status": "0% Downloaded", "hint": "Waiting for s-1-VM to connect again",
    "downloaddetails": [{"downloadState": "NOT_DOWNLOADED", "downloadPercent": "0"}],
}  # fmt: skip


def test_register_waits_until_ready(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        registerTemplate={"template": [MOVING]},
        listTemplates=[{"template": [MOVING]}, {"template": [READY]}],
    )
    result = run(fake, "template", "register", "tiny", "https://images.example.test/tiny.qcow2")
    assert result.exit_code == 0, result.output
    assert "tiny is Ready" in result.output
    assert ("registerTemplate", {
        "name": "tiny", "displaytext": "tiny", "zoneid": "z-1", "format": "QCOW2", "hypervisor": "KVM",
        "url": "https://images.example.test/tiny.qcow2",
    }) in fake.calls  # fmt: skip


def test_progress_is_shown_in_bytes(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        registerTemplate={"template": [MOVING]},
        listTemplates={"template": [MOVING | {"downloaddetails": [BROKEN_OFF]}]},
    )
    result = run(fake, "template", "register", "tiny", "https://images.example.test/tiny.qcow2")
    assert "41.0/100.0 MiB" in result.output


def test_failed_download_is_reported_with_status_and_hint(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        registerTemplate={"template": [FAILED]},
        listTemplates={"template": [FAILED]},
    )
    result = run(fake, "template", "register", "tiny", "https://images.example.test/none")
    assert result.exit_code == 1
    assert "404" in result.output
    assert "hint:  Check the URL." in result.output


def test_retry_waits_until_ready(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        retryTemplate={"template": [MOVING]},
        listTemplates=[{"template": rows} for rows in ([FAILED], [MOVING], [READY])],
    )
    result = run(fake, "template", "retry", "tiny")
    assert result.exit_code == 0, result.output
    assert "tiny is Ready" in result.output
    assert ("retryTemplate", {"id": READY["id"]}) in fake.calls


def test_retry_of_an_unknown_iso_fails(run: Callable[..., Result]) -> None:
    result = run(FakeDaemon(listIsos={}), "iso", "retry", "tiny")
    assert result.exit_code == 1
    assert "there is no ISO named 'tiny'" in result.output


def test_waiting_download_shows_what_it_waits_for(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        registerTemplate={"template": [WAITING]},
        listTemplates=[{"template": [WAITING]}, {"template": [WAITING]}, RpcError(-1, "enough")],
    )
    result = run(fake, "template", "register", "tiny", "https://images.example.test/tiny.qcow2")
    assert "Waiting for s-1-VM" in " ".join(result.output.split())


def test_the_password_of_a_source_is_read_from_standard_input(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listZones={"zone": [{"id": "z-1"}]},
        registerIso={"iso": [READY]},
        listIsos={"iso": [READY]},
    )
    sums = "https://images.example.test/SHA256SUMS"
    options = ["--source-user", "me", "--checksum", sums, "--signature", f"{sums}.gpg", "--no-wait"]
    result = run(
        fake,
        "iso",
        "register",
        "tiny",
        "https://images.example.test/a.iso",
        *options,
        standard_input="se:cret\n",
    )
    assert result.exit_code == 0, result.output
    [parameters] = [values for command, values in fake.calls if command == "registerIso"]
    assert (parameters["sourceusername"], parameters["sourcepassword"]) == ("me", "se:cret")
    assert (parameters["checksum"], parameters["checksumsignature"]) == (sums, f"{sums}.gpg")
    assert "se:cret" not in result.output


def test_export_prints_the_decoded_link(run: Callable[..., Result]) -> None:
    link = {
        "url": "https%3A%2F%2F203.0.113.101%2Fuserdata%2Fx%2Ftiny.qcow2",
        "expires": "2026-11-28T20:00:00",
    }
    fake = FakeDaemon(
        listTemplates={"template": [READY]},
        extractTemplate={"jobid": "j-1"},
        queryAsyncJobResult={"jobstatus": 1, "jobresult": {"template": link}},
    )
    result = run(fake, "template", "export", "tiny")
    assert result.exit_code == 0, result.output
    assert "https://203.0.113.101/userdata/x/tiny.qcow2\n" in result.output
    assert ("extractTemplate", {"id": READY["id"], "mode": "HTTP_DOWNLOAD"}) in fake.calls


def test_export_of_a_template_that_is_not_extractable_fails(run: Callable[..., Result]) -> None:
    fake = FakeDaemon(
        listTemplates={"template": [READY]},
        extractTemplate=RpcError.refused("431", "not extractable", "hint"),
    )
    result = run(fake, "template", "export", "tiny")
    assert result.exit_code == 1 and "not extractable" in result.output
