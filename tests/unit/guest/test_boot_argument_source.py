# SPDX-License-Identifier: Apache-2.0
"""Sources of the boot arguments, and errors when there are none."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from systemvm.guest import boot_argument_source
from systemvm.guest.boot_argument_error import BootError
from systemvm.guest.paths import GuestPaths
from systemvm.wire import boot_arguments
from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.role import Role


@pytest.fixture
def paths(tmp_path: Path) -> GuestPaths:
    (tmp_path / "credentials").mkdir()
    return GuestPaths(tmp_path, tmp_path / "credentials")


def credential(paths: GuestPaths, text: str) -> None:
    assert paths.credentials is not None
    (paths.credentials / boot_arguments.CMDLINE_CREDENTIAL).write_text(text)


def test_the_credential_takes_precedence_over_the_file(paths: GuestPaths) -> None:
    paths.cache.mkdir(parents=True)
    paths.cmdline.write_text("name=old")
    assert boot_argument_source.read(paths) == "name=old"
    credential(paths, "name=new")
    assert boot_argument_source.read(paths) == "name=new"


def test_an_empty_credential_is_ignored(paths: GuestPaths) -> None:
    credential(paths, " \n")
    with pytest.raises(BootError) as error:
        boot_argument_source.read(paths)
    assert error.value.code is BootFailure.NO_BOOT_ARGUMENTS
    assert "systemvm.cmdline" in str(error.value)
    assert str(paths.cmdline) in str(error.value)
    assert "-smbios type=11,path=FILE" in error.value.hint


def test_without_a_credentials_directory_only_the_file_is_read(paths: GuestPaths) -> None:
    with pytest.raises(BootError, match="neither the systemd credential"):
        boot_argument_source.read(GuestPaths.from_environment(str(paths.root), {}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "type= is missing"),
        ({"type": "router"}, "unknown system VM type 'router'"),
        ({"type": ""}, "unknown system VM type ''"),
        ({"type": "management"}, "not a system VM"),
        ({"type": "consoleproxy"}, "built for role ssvm"),
    ],
)
def test_a_wrong_type_is_an_error_that_names_it(
    paths: GuestPaths, arguments: dict[str, str], message: str
) -> None:
    paths.image_json.parent.mkdir(parents=True)
    paths.image_json.write_text('{"role": "ssvm"}')
    with pytest.raises(BootError, match=message) as error:
        boot_argument_source.role_of(arguments, paths)
    assert error.value.code is BootFailure.BAD_BOOT_ARGUMENTS


def test_the_type_of_the_image_is_accepted(paths: GuestPaths) -> None:
    assert boot_argument_source.role_of({"type": "consoleproxy"}, paths) is Role.CPVM


@pytest.mark.parametrize("name", ["", "a.b", "-x", "x-", "a b", "a/b", "é", "x" * 64, "a\nb"])
def test_a_name_that_is_not_a_host_name_is_an_error(name: str) -> None:
    with pytest.raises(BootError, match="name="):
        boot_argument_source.name_of({"name": name} if name else {})


def test_secrets_are_written_only_for_root(paths: GuestPaths) -> None:
    text = "name=s-1-VM type=secstorage vmpassword=hunter2 privatekey=abc== keystore_password=k certificate=c"
    boot_argument_source.store(text, boot_arguments.parse(text), paths)
    assert stat.S_IMODE(paths.cmdline.stat().st_mode) == 0o600
    assert boot_arguments.parse(paths.cmdline.read_text())["vmpassword"] == "hunter2"
    assert not {"privatekey", "certificate"} & boot_arguments.parse(paths.cmdline.read_text()).keys()
    shown = paths.cmd_line_json.read_text()
    assert json.loads(shown) == {"type": "cmdline", "cmd_line": {"name": "s-1-VM", "type": "secstorage"}}
    assert boot_argument_source.read_stored(paths) == {"name": "s-1-VM", "type": "secstorage"}


def test_a_wider_mode_of_an_earlier_file_is_replaced(paths: GuestPaths) -> None:
    paths.cache.mkdir(parents=True)
    paths.cmdline.write_text("old")
    paths.cmdline.chmod(0o644)
    boot_argument_source.store("name=s-1-VM", {"name": "s-1-VM"}, paths)
    assert stat.S_IMODE(paths.cmdline.stat().st_mode) == 0o600
    assert [path.name for path in paths.cache.iterdir() if path.name.startswith(".")] == []


def test_missing_stored_arguments_are_an_error(paths: GuestPaths) -> None:
    with pytest.raises(BootError, match="is missing"):
        boot_argument_source.read_stored(paths)
    paths.cache.mkdir(parents=True)
    for wrong in ("{", "[]", '{"cmd_line": 5}'):
        paths.cmd_line_json.write_text(wrong)
        with pytest.raises(BootError, match="cannot read"):
            boot_argument_source.read_stored(paths)


def cloudstack_form(pem: str) -> str:
    return base64.b64encode(pem.replace("\n", "^").replace(" ", "~").encode()).decode()


def test_an_identity_is_read_from_cloudstacks_keys() -> None:
    key, certificate, authority = (
        f"-----BEGIN {label}-----\nAA==\n-----END {label}-----\n"
        for label in ("PRIVATE KEY", "CERTIFICATE", "CERTIFICATE")
    )
    arguments = {
        "certificate": cloudstack_form(certificate),
        "cacertificate": cloudstack_form(authority),
        "privatekey": cloudstack_form(key).rstrip("="),  # CloudStack's parser strips the padding
    }
    assert boot_argument_source.identity_bundle(arguments) == (key + certificate + authority).encode()
    assert boot_argument_source.identity_bundle({}) is None


def test_an_incomplete_identity_is_an_error_without_its_content() -> None:
    with pytest.raises(BootError, match="incomplete identity: certificate and cacertificate") as error:
        boot_argument_source.identity_bundle({"privatekey": "c2VjcmV0"})
    assert "c2VjcmV0" not in str(error.value)
    with pytest.raises(BootError, match="certificate= is not base64"):
        boot_argument_source.identity_bundle(
            {"privatekey": "AA==", "certificate": "%%", "cacertificate": "AA=="}
        )
