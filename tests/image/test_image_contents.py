# SPDX-License-Identifier: Apache-2.0
"""The required content of an image: packages, users, units, programs, and compiled Python."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from image.built_image import TOP, BuiltImage
from systemvm.host import guest_code
from systemvm.service.slowness import scaled_s
from systemvm.wire.role import Role

pytestmark = pytest.mark.image

OTHER = {"ssvm": "cpvm", "cpvm": "ssvm"}


def test_packages_of_the_lists_are_installed(image: BuiltImage) -> None:
    import appliance

    for name in appliance.load(image.role).debian_packages:
        assert image.host.package(name).is_installed, name


def test_the_console_proxy_has_no_nfs(image: BuiltImage) -> None:
    assert image.host.package("nfs-common").is_installed == (image.role == "ssvm")


def test_users_have_their_ids_and_no_login(image: BuiltImage) -> None:
    agent = image.host.user("systemvm-agent")
    assert (agent.uid, agent.gid, agent.shell) == (980, 979, "/usr/sbin/nologin")
    fetch = image.host.user("systemvm-fetch")
    assert fetch.exists
    assert (fetch.uid, fetch.shell) == (981, "/usr/sbin/nologin")
    serve = image.host.user("systemvm-serve")
    assert (serve.uid, serve.shell) == (983, "/usr/sbin/nologin")


def test_firewall_uses_the_users_ids(image: BuiltImage) -> None:
    rules = (image.root / "etc/systemvm/nftables.conf").read_text()
    for user in re.findall(r"^define (\w+) = \d+", rules, re.MULTILINE):
        assert f"define {user} = {image.host.user(f'systemvm-{user}').uid}" in rules


def test_units_are_installed_and_enabled(image: BuiltImage) -> None:
    import appliance

    about = appliance.load(image.role)
    for unit in about.units:
        assert image.host.file(f"/usr/lib/systemd/system/{unit}").mode == 0o644
    for unit in about.enable:
        shown = image.host.run("systemctl is-enabled %s", unit)
        assert shown.stdout.strip() == "enabled", unit
    assert image.host.file("/etc/systemd/system/cloud.service").is_symlink


def test_units_of_the_other_role_are_absent(image: BuiltImage) -> None:
    import appliance

    others = set(appliance.load(OTHER[image.role]).units) - set(appliance.load(image.role).units)
    assert others
    assert not [unit for unit in others if (image.root / "usr/lib/systemd/system" / unit).exists()]


def test_units_verify_in_the_image(image: BuiltImage) -> None:
    """With the image's systemd, because the host's can be another version."""
    import appliance

    units = [unit for unit in appliance.load(image.role).units if "@" not in unit]
    # systemd detects IPv6 in /proc; without it a socket with only IPv6 addresses is reported as empty
    verify = "systemd-analyze verify --man=no --recursive-errors=no"
    script = f"""mount -t proc proc "$1/proc" && exec chroot "$1" {verify} "${{@:2}}" """
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "verify", image.root, *units],
        capture_output=True, text=True, timeout=scaled_s(120.0), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "systemvm-" not in done.stderr, done.stderr


def test_masked_units_are_masked(image: BuiltImage) -> None:
    import appliance

    for unit in appliance.read_list(TOP / "appliances/base/masked-units"):
        assert image.host.file(f"/etc/systemd/system/{unit}").linked_to == "/dev/null", unit


def test_python_has_the_version_of_the_wheels(image: BuiltImage) -> None:
    assert image.host.run("python3 --version").stdout.startswith("Python 3.13.")


def test_programs_start(image: BuiltImage) -> None:
    import appliance

    for program in appliance.load(image.role).programs:
        path = f"/opt/systemvm/current/bin/{program}"
        assert image.host.file(path).mode == 0o755
    shown = image.host.run("/opt/systemvm/current/bin/systemvm-agent --help")
    assert shown.rc == 0, shown.stderr


def test_an_appliance_contains_only_its_own_role(image: BuiltImage) -> None:
    present = {path.name for path in (image.lib / "systemvm").iterdir() if path.is_dir()} - {"__pycache__"}
    assert present == set(guest_code.packages_of(Role(image.role)))


def test_every_python_file_is_compiled_unchecked(image: BuiltImage) -> None:
    standard = next((image.root / "usr/lib").glob("python3.*"))
    checked = 0
    for top in (image.lib, standard):
        for source in top.rglob("*.py"):
            if source.is_symlink() or source.stat().st_size == 0:
                continue
            compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
            assert compiled.exists(), source
            # PEP 552: bit 0 is set for hash-based files, bit 1 for files whose source is checked
            assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", compiled
            checked += 1
    assert checked > 500


def test_no_tests_and_no_build_tools(image: BuiltImage) -> None:
    assert not [path for path in image.lib.rglob("tests") if path.is_dir()]
    for name in ("gcc", "make", "pip", "pip3", "git"):
        assert not (image.root / "usr/bin" / name).exists()


def test_only_locked_packages_are_installed(image: BuiltImage) -> None:
    locked = set(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (TOP / "agents/locks/guest.txt").read_text(), re.MULTILINE)
    )
    installed = {
        (re.sub(r"[_.]+", "-", name).lower(), version)
        for name, version in (
            path.name.removesuffix(".dist-info").rsplit("-", 1) for path in image.lib.glob("*.dist-info")
        )
    }
    assert installed - {("systemvm", image.manifest["version"])} == locked


def test_stock_novnc_is_only_in_the_console_proxy(image: BuiltImage) -> None:
    novnc: Path = image.root / "opt/systemvm/novnc/core/rfb.js"
    assert novnc.exists() == (image.role == "cpvm")


def test_journal_is_in_memory(image: BuiltImage) -> None:
    text = (image.root / "etc/systemd/journald.conf.d/systemvm.conf").read_text()
    assert "Storage=volatile" in text
    assert not (image.root / "var/log/journal").exists()


def test_sshd_accepts_only_keys(image: BuiltImage) -> None:
    preinit_files = image.root / "run/systemvm-preinit"
    try:
        # sshd prints its settings only with a host key, which the image's links point to
        image.host.run("mkdir -p /run/sshd /run/systemvm-preinit")
        image.host.run("ssh-keygen -q -t ed25519 -N '' -f /run/systemvm-preinit/ssh_host_ed25519_key")
        shown = image.host.run("/usr/sbin/sshd -T")
    finally:
        shutil.rmtree(preinit_files, ignore_errors=True)
        (image.root / "run/sshd").rmdir()
    assert shown.rc == 0, shown.stderr
    settings = dict(line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line)
    assert settings["authenticationmethods"] == "publickey"
    assert settings["passwordauthentication"] == "no"
    assert settings["kbdinteractiveauthentication"] == "no"
    assert settings["permitrootlogin"] in ("without-password", "prohibit-password")
    assert settings["allowtcpforwarding"] == "no"
    assert settings["port"] == "3922"
