# SPDX-License-Identifier: Apache-2.0
"""Content that an image must not have, because many VMs of different owners are made of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from image.built_image import BuiltImage

pytestmark = pytest.mark.image

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20}")


def files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory) / name
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def test_no_ssh_host_keys(image: BuiltImage) -> None:
    found = list((image.root / "etc/ssh").glob("ssh_host_*"))
    assert {str(path.readlink()) for path in found} == {
        f"/run/systemvm-preinit/{path.name}" for path in found
    }
    assert not list((image.root / "run").glob("systemvm*"))


def test_no_user_can_log_in(image: BuiltImage) -> None:
    assert str((image.root / "root/.ssh").readlink()) == "/run/systemvm-preinit/root-ssh"
    assert not list((image.root / "home").iterdir())


def test_no_private_key_anywhere(image: BuiltImage) -> None:
    found = [path for path in files(image.root) if PRIVATE_KEY.search(path.read_bytes())]
    assert not found


def test_no_password(image: BuiltImage) -> None:
    for line in (image.root / "etc/shadow").read_text().splitlines():
        user, secret = line.split(":")[:2]
        assert secret.startswith(("*", "!")), user


def test_names_are_set_at_each_boot(image: BuiltImage) -> None:
    assert (image.root / "etc/machine-id").read_text() == ""
    for name in ("hostname", "hosts", "resolv.conf"):
        assert str((image.root / "etc" / name).readlink()) == f"/run/systemvm-preinit/{name}"


@pytest.mark.parametrize(
    "name",
    ["var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
     "root/.bash_history", "var/cache/cloud/cmdline"],
)  # fmt: skip
def test_nothing_of_the_build_remains(image: BuiltImage, name: str) -> None:
    assert not (image.root / name).exists()


@pytest.mark.parametrize("name", ["var/lib/apt/lists", "var/log", "var/tmp", "tmp"])
def test_caches_and_logs_are_empty(image: BuiltImage, name: str) -> None:
    assert not list(files(image.root / name))


def test_apt_has_no_mirror(image: BuiltImage) -> None:
    apt = image.root / "etc/apt"
    assert not [path for path in files(apt) if path.suffix in (".list", ".sources")]
    for path in files(apt):
        assert b"://" not in path.read_bytes().replace(b"http://apt.invalid", b""), path


def test_no_address_of_the_build_is_in_the_image(image: BuiltImage) -> None:
    """No file except those of Debian packages contains the host's mirrors, proxy or package index."""
    import mirror

    names = [urlsplit(line.split()[1]).hostname for line in mirror.source_lines("trixie")]
    names += [urlsplit(value).hostname for name, value in os.environ.items() if _is_address(name)]
    hosts = {host.encode() for host in names if host and host not in ("localhost", "127.0.0.1")}
    owned = _packaged(image.root)
    assert hosts
    for path in files(image.root):
        relative = "/" + str(path.relative_to(image.root))
        if relative in owned or relative.replace("/usr/", "/", 1) in owned or "__pycache__" in relative:
            continue
        content = path.read_bytes()
        assert not [host for host in hosts if host in content], relative


def _is_address(name: str) -> bool:
    return name.lower().endswith("_proxy") or name.upper() in (
        "PIP_INDEX_URL",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
    )


def _packaged(root: Path) -> set[str]:
    lists = (root / "var/lib/dpkg/info").glob("*.list")
    return {line for path in lists for line in path.read_text().splitlines()}


def test_no_file_has_a_set_uid_or_set_gid_bit(image: BuiltImage) -> None:
    """Only root logs in, and systemd sets the user of each service, so no program needs these bits."""
    found = [path for path in files(image.root) if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert found == []


def test_only_root_can_write_our_files(image: BuiltImage) -> None:
    for top in ("opt/systemvm", "etc/systemvm", "usr/lib/systemd/system"):
        for path in files(image.root / top):
            about = path.lstat()
            assert (about.st_uid, about.st_gid) == (0, 0), path
            assert not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


def test_licences_are_kept_and_manuals_removed(image: BuiltImage) -> None:
    assert (image.root / "usr/share/doc/systemd/copyright").exists()
    assert not list(files(image.root / "usr/share/man"))
