# SPDX-License-Identifier: Apache-2.0
"""Command lines of runDiagnostics, and the content of a diagnostics archive."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from systemvm.guest import diagnose, diagnostics_bundle
from systemvm.guest.diagnose import DiagnosisProgram, command
from systemvm.guest.diagnostics_bundle import BundleEntry
from systemvm.wire.diagnostics import TYPES, DiagnosticsRequestError

TOP = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("kind", "params", "arguments"),
    [
        ("ping", "", ["ping", "-4", "-c", "4", "--", "192.0.2.2"]),
        ("PING6", "-c 1", ["ping", "-6", "-c", "1", "--", "192.0.2.2"]),
        ("arping", "-I eth2", ["arping", "-c", "4", "-I", "eth2", "192.0.2.2"]),
        ("traceroute", "-m 5", ["traceroute", "-4", "-m", "5", "--", "192.0.2.2"]),
        ("traceroute6", "-m5", ["traceroute", "-6", "-m5", "--", "192.0.2.2"]),
    ],
)
def test_the_limiting_option_is_added_unless_it_is_given(
    kind: str, params: str, arguments: list[str]
) -> None:
    assert command(DiagnosisProgram.of(kind), "192.0.2.2", params) == arguments


@pytest.mark.parametrize(
    "address", ["", "-f", "a;reboot", "$(id)", "a b", "-I eth0", "a/b", ".", "a..b", "x" * 254]
)
def test_anything_but_an_address_is_refused(address: str) -> None:
    with pytest.raises(DiagnosticsRequestError, match="must be an IP address or a host name"):
        command(DiagnosisProgram.PING, address)


@pytest.mark.parametrize("params", ["-c 1; id", "`id`", "$HOME", "a|b", "a&b", "--output=/x", "a\\b", "'"])
def test_params_cannot_carry_a_command(params: str) -> None:
    with pytest.raises(DiagnosticsRequestError, match="params"):
        command(DiagnosisProgram.PING, "192.0.2.2", params)


def test_an_unknown_type_lists_the_known_ones() -> None:
    with pytest.raises(DiagnosticsRequestError, match="traceroute6"):
        DiagnosisProgram.of("nmap")


def test_exit_codes_are_strings_and_a_timeout_is_124() -> None:
    assert diagnose.run(["true"])["exitcode"] == "0"
    assert diagnose.run(["false"])["exitcode"] == "1"
    assert diagnose.run(["/no/such/program"])["exitcode"] == "127"
    late = diagnose.run(["sleep", "30"], timeout_s=0.05)
    assert (late["exitcode"], late["stdout"]) == ("124", "")


def test_invalid_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert diagnose.main(["run", "ping", "-f"]) == 2
    assert diagnose.main([]) == 2
    assert "usage" in capsys.readouterr().err


def unpack(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        return {name: zipped.read(name).decode() for name in zipped.namelist()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "etc/cloudstack-release": "Cloudstack Release 4.22.0\n",
        "etc/shadow": "canary-shadow",
        "var/log/app.log": "started\npassword=canary-log\n",
        "run/systemvm-agent/identity.pem": "canary-key",
        "root/.ssh/id": "canary-ssh",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "var/log/link").symlink_to(tmp_path / "etc/shadow")
    return tmp_path


ENTRIES = [
    BundleEntry("file", "etc/cloudstack-release", ("/etc/cloudstack-release",)),
    BundleEntry("exec", "greeting", ("echo", "secret=canary-exec", "hello")),
    BundleEntry("exec", "nothing", ("/no/such/program",)),
]


def test_an_archive_has_all_entries_and_a_manifest(root: Path) -> None:
    files = unpack(diagnostics_bundle.archive([], ENTRIES, root))
    assert set(files) == {"etc/cloudstack-release", "greeting", "fileinfo.txt"}
    assert files["greeting"] == "secret=[redacted] hello\n"
    found, _, missing = files["fileinfo.txt"].partition("File Not Found!!:")
    assert "etc/cloudstack-release" in found
    assert "nothing" in missing


@pytest.mark.parametrize(
    "wanted",
    ["/etc/shadow", "/var/log/link", "/var/log/../../etc/shadow", "/run/systemvm-agent/identity.pem",
     "/root/.ssh/id", "etc/shadow", "[ls -l]", "/var/cache/cloud/cmdline"],
)  # fmt: skip
def test_no_other_file_is_returned(root: Path, wanted: str) -> None:
    files = unpack(diagnostics_bundle.archive([wanted], ENTRIES, root))
    assert set(files) == {"fileinfo.txt"}
    assert "canary" not in files["fileinfo.txt"]


def test_links_of_etc_are_followed_to_what_preinit_wrote(root: Path) -> None:
    written = root / "run/systemvm-preinit"
    written.mkdir(parents=True)
    (written / "hosts").write_text("127.0.0.1 localhost\n")
    (written / "ssh_host_ed25519_key").write_text("canary-host-key")
    (root / "etc/hosts").symlink_to(written / "hosts")
    (root / "etc/hostname").symlink_to(written / "ssh_host_ed25519_key")
    files = unpack(diagnostics_bundle.archive(["/etc/hosts", "/etc/hostname"], ENTRIES, root))
    assert set(files) == {"etc/hosts", "fileinfo.txt"}


def test_a_log_is_redacted(root: Path) -> None:
    files = unpack(diagnostics_bundle.archive(["/var/log/app.log", "/etc/cloudstack-release"], ENTRIES, root))
    assert files["var/log/app.log"] == "started\npassword=[redacted]\n"
    assert files["etc/cloudstack-release"].startswith("Cloudstack")


def test_the_appliances_list_can_be_parsed() -> None:
    entries = diagnostics_bundle.parse(
        (TOP / "appliances/base/overlay/etc/systemvm/diagnostics.conf").read_text()
    )
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names)
    # CloudStack's diagnostics.data.systemvm.defaults
    assert {"iptables", "ipaddr", "iprule", "iproute", "etc/cloudstack-release", "var/log/cloud.log"} <= set(
        names
    )
    for line in ("what", "exec onlyname", "copy a b"):
        with pytest.raises(ValueError, match="line 1"):
            diagnostics_bundle.parse(line)


def test_the_guest_runs_each_type_of_the_api() -> None:
    assert tuple(kind.label for kind in DiagnosisProgram) == TYPES
