# SPDX-License-Identifier: Apache-2.0
"""The images' inputs are fetched through the operator's proxy, verified, and compared with the lock."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from attrs import evolve, frozen

from integration.build_mirror import NAME, SUITE, Mirror, signing_key, small_mirror

sys.path.insert(0, str(Path(__file__).parents[2] / "packer"))
import cache as cache_module
import deb_lock
import fetch
import payload
from appliance import Appliance
from cache import Cache
from deb_lock import DebLock
from isolated_apt import IsolatedApt
from npm_package import NPM_PACKAGES

pytestmark = pytest.mark.timeout(120)
BASE = {"Package": "base", "Version": "1:2.0", "Essential": "yes", "Priority": "required"}
APT = {"Package": "apt", "Version": "3.0"}
WANTED = {"Package": "wanted", "Version": "1.0-1", "Depends": "library1"}
LIBRARY = {"Package": "library1", "Version": "1.0-1"}
NEWER = {"Package": "wanted", "Version": "1.1-1", "Depends": "library2"}
NEWER_LIBRARY = {"Package": "library2", "Version": "1.1-1"}


@frozen
class SmallAppliance:
    """The part of an appliance that selects its packages."""

    role: str = "cpvm"
    suite: str = SUITE
    architecture: str = "amd64"
    debian_packages: tuple[str, ...] = ("wanted",)


def small_appliance() -> Appliance:
    return cast(Appliance, SmallAppliance())


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Serve a mirror, and set the environment that names it."""
    place = tmp_path / "mirror"
    place.mkdir()
    with small_mirror(place) as served:
        served.publish_debs(BASE, APT, WANTED, LIBRARY)
        for key, value in served.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(fetch, "BUILD", tmp_path)
        monkeypatch.setattr(deb_lock, "LOCKS", tmp_path / "locks")
        yield served


@pytest.fixture
def apt(tmp_path: Path) -> IsolatedApt:
    return IsolatedApt(tmp_path / "apt", SUITE, "amd64")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", "amd64")


@pytest.fixture
def lock(mirror: Mirror, apt: IsolatedApt) -> DebLock:
    """Lock the mirror's first packages."""
    apt.update()
    made = fetch.resolve(apt, [small_appliance()])
    made.write(deb_lock.lock_path("amd64"))
    return made


def versions(lock: DebLock) -> dict[str, str]:
    return {deb.name: deb.version for deb in lock.debs}


def test_a_lock_names_what_would_be_installed_and_no_address(lock: DebLock) -> None:
    assert versions(lock) == {"apt": "3.0", "base": "1:2.0", "library1": "1.0-1", "wanted": "1.0-1"}
    text = deb_lock.lock_path("amd64").read_text()
    assert NAME not in text
    assert "://" not in text
    assert DebLock.read(deb_lock.lock_path("amd64")) == lock


def test_packages_are_fetched_by_the_proxy_from_a_mirror_with_a_private_ca(
    mirror: Mirror, lock: DebLock, cache: Cache
) -> None:
    fetch.fetch_debs([small_appliance()], cache)
    assert set(mirror.requested_hosts) == {NAME}
    assert cache.missing_debs(lock) == []
    assert cache.lock() == lock


def test_wheels_and_novnc_are_fetched_by_the_proxy(
    mirror: Mirror, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "guest.txt"
    wheels.write_text(f"small==1.0 \\\n    --hash=sha256:{mirror.publish_wheel('small', '1.0')}\n")
    integrity = mirror.publish_npm("@novnc/novnc", "9.9.9", {"core/rfb.js": "export default 1;"})
    facts = {"packages": {"node_modules/@novnc/novnc": {"version": "9.9.9", "integrity": integrity}}}
    (tmp_path / "package-lock.json").write_text(json.dumps(facts))
    novnc = evolve(NPM_PACKAGES[0], lock=tmp_path / "package-lock.json")
    for module in (fetch, cache_module):
        monkeypatch.setattr(module, "GUEST_LOCK", wheels)
    monkeypatch.setattr(cache_module, "NPM_PACKAGES", (novnc,))
    assert cache.missing(DebLock(())) == ["wheel small==1.0", "noVNC 9.9.9"]
    fetch.fetch_wheels(cache)
    by_pip = len(mirror.requested_hosts)
    fetch.fetch_npm(cache, novnc)
    assert 0 < by_pip < len(mirror.requested_hosts)
    assert set(mirror.requested_hosts) == {NAME}
    assert cache.missing(DebLock(())) == []


def test_a_wheel_with_another_hash_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish_wheel("small", "1.0")
    wheels = tmp_path / "guest.txt"
    wheels.write_text(f"small==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(SystemExit, match=r"(?i)hash"):
        payload.fetch_wheels(wheels, tmp_path / "wheels", "x86_64")
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_mirror_of_an_unknown_ca_is_refused(
    mirror: Mirror, apt: IsolatedApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CA_BUNDLE")
    with pytest.raises(SystemExit, match=r"(?s)certificate.*hint: .*CA_BUNDLE"):
        apt.update()


def test_an_index_signed_by_another_key_is_refused(
    mirror: Mirror, apt: IsolatedApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing_key(tmp_path / "other", tmp_path / "other.gpg")
    monkeypatch.setenv("MIRROR_KEYRING", str(tmp_path / "other.gpg"))
    with pytest.raises(SystemExit, match="NO_PUBKEY"):
        apt.update()


def test_a_complete_cache_sends_no_request(mirror: Mirror, lock: DebLock, cache: Cache) -> None:
    fetch.fetch_debs([small_appliance()], cache)
    mirror.publish_debs(BASE, APT, NEWER, NEWER_LIBRARY)
    before = len(mirror.requested_hosts)
    fetch.fetch_debs([small_appliance()], cache)
    assert len(mirror.requested_hosts) == before
    assert cache.lock() == lock


def test_newer_packages_of_the_mirror_are_used_and_reported(
    mirror: Mirror, lock: DebLock, cache: Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.publish_debs(BASE, APT, NEWER, NEWER_LIBRARY)
    fetch.fetch_debs([small_appliance()], cache)
    used = cache.lock()
    assert versions(used) == {"apt": "3.0", "base": "1:2.0", "library2": "1.1-1", "wanted": "1.1-1"}
    assert cache.missing_debs(used) == []
    changes = [
        "library1: 1.0-1 → none",
        "library2: not locked → 1.1-1",
        "wanted: 1.0-1 → 1.1-1",
    ]
    assert deb_lock.deviations(lock.debs, used.debs) == changes
    warning = capsys.readouterr().err
    assert warning.startswith("warning: 3 Debian packages")
    assert all(line in warning for line in changes)
    assert "make lock-debs" in warning


def test_locked_versions_are_used_again_when_the_mirror_has_them(
    mirror: Mirror, lock: DebLock, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with MIRROR= set to a snapshot of the archive, the day after."""
    mirror.publish_debs(BASE, APT, NEWER, NEWER_LIBRARY)
    fetch.fetch_debs([small_appliance()], cache)
    mirror.publish_debs(BASE, APT, WANTED, LIBRARY, NEWER_LIBRARY)
    monkeypatch.setenv("LOCKED", "1")
    fetch.fetch_debs([small_appliance()], cache)
    assert cache.lock() == lock


def test_locked_refuses_and_names_what_is_gone(
    mirror: Mirror, lock: DebLock, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.publish_debs(BASE, APT, NEWER, NEWER_LIBRARY)
    monkeypatch.setenv("LOCKED", "1")
    with pytest.raises(SystemExit, match=r"(?s)wanted: 1\.0-1 → 1\.1-1.*hint: .*MIRROR="):
        fetch.fetch_debs([small_appliance()], cache)
    monkeypatch.delenv("LOCKED")
    fetch.fetch_debs([small_appliance()], cache)
    monkeypatch.setenv("LOCKED", "1")
    with pytest.raises(SystemExit, match="Debian packages of the mirror differ from the lock"):
        cache.lock()


def test_the_locked_version_with_other_content_is_refused(
    mirror: Mirror, lock: DebLock, cache: Cache
) -> None:
    """The index is signed, but the lock's hash decides."""
    mirror.publish_debs(BASE, APT, {**WANTED, "Description": "another"}, LIBRARY)
    with pytest.raises(
        SystemExit, match=r"hash of wanted 1\.0-1 from the mirror differs from the locked one"
    ):
        fetch.fetch_debs([small_appliance()], cache)
    assert cache.missing_debs(lock) == list(lock.debs)


def test_an_incomplete_cache_names_what_is_missing_and_what_is_broken(
    mirror: Mirror, lock: DebLock, cache: Cache
) -> None:
    fetch.fetch_debs([small_appliance()], cache)
    library, wanted = (next(d for d in lock.debs if d.name == name) for name in ("library1", "wanted"))
    cache.path(library).unlink()
    content = bytearray(cache.path(wanted).read_bytes())
    content[-1] ^= 1
    cache.path(wanted).write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        cache.require_complete(lock)
    text = str(caught.value)
    assert "Debian package library1 1.0-1 all" in text
    assert "Debian package wanted 1.0-1 all" in text
    assert "Debian package base" not in text
    assert "make fetch" in text


def test_a_role_that_is_not_in_the_lock_has_no_packages(lock: DebLock) -> None:
    assert lock.of_role("ssvm") == []
    assert evolve(lock, instead_of="x").digest == lock.digest
