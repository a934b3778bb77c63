# SPDX-License-Identifier: Apache-2.0
"""Downloads through the zone's proxy: probe and transfer, with TLS and without, and what the proxy sees."""

from __future__ import annotations

import pytest
import pytest_twisted

from integration.ssvm_lab.bad_server import BODY
from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import BAD, daemon, world
from integration.ssvm_lab.world import NAME, PROXY, World
from systemvm.wire.source_access import SourceAccess, SourceCredentials, SourceProxy
from systemvm.wire.storage import DownloadState, DownloadStatus

__all__ = ["daemon", "world"]  # fixtures
pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
LOGIN = SourceCredentials("me", "secret")
THROUGH = SourceAccess(proxy=SourceProxy(*PROXY, LOGIN))


def content(world: World, status: DownloadStatus) -> bytes:
    assert status.state is DownloadState.DOWNLOADED, status.error
    assert status.install_path is not None
    return (world.store / status.install_path).read_bytes()


@pytest.mark.parametrize(
    "url",
    [
        f"https://{NAME}/proxied.raw",
        f"http://{NAME}/proxied.raw",
        "http://proxied.example.test:8000/good",  # no name server knows it
        "http://proxied.example.test:8000/redirect?to=http://proxied.example.test/proxied.raw",
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_image_comes_through_the_proxy(world: World, daemon: Daemon, url: str) -> None:
    (world.files / "proxied.raw").write_bytes(BODY)
    before = world.proxied.read_bytes().count(b"CONNECT ")
    status = await daemon.download(request(world, url, access=THROUGH))
    assert content(world, status) == BODY
    seen = world.proxied.read_bytes()
    assert seen.count(b"CONNECT ") >= before + 2, "probe and transfer"
    assert b"GET " not in seen
    assert b"proxied.raw" not in seen


@pytest_twisted.ensureDeferred
async def test_a_transfer_that_breaks_off_resumes_through_the_proxy(world: World, daemon: Daemon) -> None:
    url = "http://proxied.example.test:8000/drops?id=proxied"
    assert content(world, await daemon.download(request(world, url, access=THROUGH))) == BODY


@pytest.mark.parametrize(
    "target",
    [
        f"{BAD}/private",
        f"{BAD}/redirect?to=/private",
        f"{BAD}/redirect?to=http://{NAME}:8000/without_login",
        f"{BAD}/redirect?to=http://{NAME}:8000/redirect%3Fto={BAD}/private",
    ],
)
@pytest.mark.parametrize("proxy", [None, SourceProxy(*PROXY, SourceCredentials("me", "secret"))])
@pytest_twisted.ensureDeferred
async def test_the_login_of_a_source_goes_to_its_origin_only(
    world: World, daemon: Daemon, target: str, proxy: SourceProxy | None
) -> None:
    access = SourceAccess(proxy=proxy, credentials=LOGIN)
    assert content(world, await daemon.download(request(world, target, access=access))) == BODY
    seen = world.proxied.read_bytes()
    assert b"\r\nAuthorization" not in seen


@pytest_twisted.ensureDeferred
async def test_a_source_that_wants_a_login_is_named(world: World, daemon: Daemon) -> None:
    status = await daemon.download(request(world, f"{BAD}/private"))
    assert status.error is not None
    assert (status.error.code, "sourceusername" in status.error.hint) == ("http_status", True)


@pytest.mark.parametrize(
    ("url", "access", "code"),
    [
        (f"https://{NAME}/proxied.raw", SourceAccess(proxy=SourceProxy(*PROXY)), "proxy_refused"),
        ("https://refused.example.test/proxied.raw", THROUGH, "proxy_refused"),
        (
            f"https://{NAME}/proxied.raw",
            SourceAccess(proxy=SourceProxy("203.0.113.10", 1)),
            "connection_refused",
        ),
        ("http://10.11.0.1/x", THROUGH, "url_denied"),
        ("http://management.example.test/x", THROUGH, "url_denied"),
        ("http://proxied.example.test:8000/redirect?to=http://127.0.0.1/x", THROUGH, "url_denied"),
        (
            "http://proxied.example.test/x",
            SourceAccess(proxy=SourceProxy("loop.example.test", 80)),
            "url_denied",
        ),
        ("http://proxied.example.test/x", SourceAccess(proxy=SourceProxy("169.254.0.1", 80)), "url_denied"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals_are_named(
    world: World, daemon: Daemon, url: str, access: SourceAccess, code: str
) -> None:
    status = await daemon.download(request(world, url, access=access))
    assert status.error is not None
    assert status.error.code == code
    assert "secret" not in status.error.message
    assert world.forbidden_connections() == []
