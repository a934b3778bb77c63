# SPDX-License-Identifier: Apache-2.0
"""Links to images through the SSVM's real processes, with curl as the client on the public network."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
import trustme
from attrs import evolve

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, world
from integration.ssvm_lab.public_client import ORIGIN, Client, identity
from integration.ssvm_lab.world import STORE, VM, World, kill_all
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import (
    EXTRACT_LINKS,
    EXTRACT_SERVED,
    EXTRACT_SETUP,
    AccountBytes,
    ExtractLink,
    ExtractLinks,
    ExtractSetup,
    ServedBytes,
)
from systemvm.wire.storage import TemplateDelete

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
__all__ = ["daemon", "world"]  # fixtures
CONTENT = hashlib.shake_256(b"image").digest(5_000_011)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client(world: World, authority: trustme.CA, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    yield Client(world, tmp_path / "ca.pem")


def publish(world: World, template_id: int = 204, content: bytes = CONTENT) -> None:
    """Put a template on the store as another SSVM or CloudStack has left it there."""
    directory = world.store / f"template/tmpl/2/{template_id}"
    directory.mkdir(parents=True)
    (directory / "image.raw").write_bytes(content)
    (directory / "template.properties").write_text(
        f"id={template_id}\nuniquename={template_id}-2-x\nfilename=image.raw\nraw=true\nraw.filename=image.raw\n"
        f"raw.size={len(content)}\nraw.virtualsize={len(content)}\nsize={len(content)}\n"
        f"virtualsize={len(content)}\npublic=true\nhvm=true\ndescription=x\nchecksum=\n"
    )


def link(template_id: int = 204, lifetime_s: float = 600.0) -> ExtractLink:
    return ExtractLink(str(uuid.uuid4()), "tiny.raw", STORE, 2, template_id, time.time() + lifetime_s)


async def serve(daemon: Daemon, setup: ExtractSetup, *links: ExtractLink) -> None:
    await daemon.call(EXTRACT_SETUP, setup, Acknowledgement)
    await daemon.call(EXTRACT_LINKS, ExtractLinks(list(links), is_first=True), Acknowledgement)


@pytest_twisted.ensureDeferred
async def test_link_serves_the_file_and_its_parts(
    daemon: Daemon,
    world: World,
    client: Client,
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    publish(world)
    known = link()
    await serve(daemon, identity(authority, VM), known)
    url = ORIGIN + known.path
    assert client.get(url) == CONTENT
    head = client.get(url, "-I").decode().lower()
    assert "200 ok" in head and f"content-length: {len(CONTENT)}" in head
    assert 'content-disposition: attachment; filename="tiny.raw"' in head
    assert "accept-ranges: bytes" in head and "referrer-policy: no-referrer" in head
    tag = next(line for line in head.splitlines() if line.startswith("etag:")).split(": ")[1].strip()
    assert client.get(url, "-r", "100-199") == CONTENT[100:200]
    assert client.get(url, "-r", "-7") == CONTENT[-7:]
    assert client.get(url, "-r", "4000000-", "-H", f"If-Range: {tag}") == CONTENT[4_000_000:]
    assert client.get(url, "-r", "4000000-", "-H", 'If-Range: "other"') == CONTENT
    several = client.get(url, "-r", "0-9,2000000-2000009")
    assert CONTENT[:10] in several and CONTENT[2_000_000:2_000_010] in several
    assert client.code(url, "-r", f"{len(CONTENT)}-") == 416
    assert client.code(url, "-H", f"If-None-Match: {tag}") == 304
    assert client.code(url, "-H", 'If-Match: "other"') == 412
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:3_000_000])
    client.get(url, "-C", "-", "-o", str(part))
    assert part.read_bytes() == CONTENT
    twice = client.get(url, url)  # two requests on one connection
    assert twice == CONTENT + CONTENT


@pytest_twisted.ensureDeferred
async def test_any_file_of_the_store_is_served_and_what_is_sent_is_counted(
    daemon: Daemon, world: World, client: Client, authority: trustme.CA
) -> None:
    publish(world)
    assert await daemon.call(EXTRACT_SERVED, None, ServedBytes) == ServedBytes(), "serve does not run"
    owned, plain = evolve(link(), owner_id=7), link()
    path = "template/tmpl/2/204/template.properties"
    of_store = evolve(link(), file_name="x", account_id=0, template_id=0, store_path=path)
    directory = evolve(of_store, secret=str(uuid.uuid4()), store_path="template/tmpl/2")
    await serve(daemon, identity(authority, VM), owned, plain, of_store, directory)
    assert client.get(ORIGIN + of_store.path) == (world.store / path).read_bytes()
    assert client.code(ORIGIN + directory.path) == 404
    assert client.get(ORIGIN + owned.path) == client.get(ORIGIN + plain.path) == CONTENT
    assert client.get(ORIGIN + owned.path, "-r", "0-99") == CONTENT[:100]
    served = await daemon.call(EXTRACT_SERVED, None, ServedBytes)
    assert served.instance
    assert served.accounts == [AccountBytes(7, len(CONTENT) + 100)]


@pytest_twisted.ensureDeferred
async def test_unknown_expired_and_foreign_links_are_the_same(
    daemon: Daemon,
    world: World,
    client: Client,
    authority: trustme.CA,
) -> None:
    publish(world)
    known, gone, lost = link(), link(lifetime_s=2.0), link(template_id=999)
    await serve(daemon, identity(authority, VM), known, gone, lost)
    while client.code(ORIGIN + gone.path) == 200:  # the test's own time limit ends it
        pass
    paths = [
        gone.path, lost.path, f"/userdata/{uuid.uuid4()}/tiny.raw", known.path + "x", known.path.upper(),
        f"/userdata/{known.secret}/", f"/userdata/{known.secret}/../{known.secret}/tiny.raw", "/",
        "/userdata", f"{known.path}%00",
    ]  # fmt: skip
    answers = {client.get(ORIGIN + path, "-i", "--path-as-is").replace(b"\r", b"") for path in paths}
    without_date = {
        b"\n".join(line for line in answer.split(b"\n") if not line.lower().startswith(b"date"))
        for answer in answers
    }
    assert len(without_date) == 1 and b"404" in without_date.pop()
    assert client.code(ORIGIN + known.path, "-d", "x=1") == 413
    assert client.code(ORIGIN + known.path, "-X", "DELETE") == 405
    assert client.code(ORIGIN + gone.path, "-X", "DELETE") == 404
    assert client.code(ORIGIN + known.path) == 200


@pytest_twisted.ensureDeferred
async def test_links_survive_a_kill_of_serve_and_are_replaced_by_the_daemon(
    daemon: Daemon,
    world: World,
    client: Client,
    authority: trustme.CA,
) -> None:
    publish(world)
    known = link()
    await serve(daemon, identity(authority, VM), known)
    assert client.code(ORIGIN + known.path) == 200
    (before,) = world.serve_pids()
    kill_all([before])
    await until(lambda: world.serve_pids() not in ([], [before]))
    await until(lambda: client.code(ORIGIN + known.path) == 200)
    other = link()
    await daemon.call(EXTRACT_LINKS, ExtractLinks([other], is_first=True), Acknowledgement)
    assert (client.code(ORIGIN + known.path), client.code(ORIGIN + other.path)) == (404, 200)


@pytest_twisted.ensureDeferred
async def test_deleting_a_template_ends_its_transfers(
    daemon: Daemon,
    world: World,
    client: Client,
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    publish(world, content=CONTENT * 6)
    known = link()
    await serve(daemon, identity(authority, VM), known)
    with client.start("--limit-rate", "100k", "-o", str(tmp_path / "slow"), ORIGIN + known.path) as slow:
        await until(lambda: (tmp_path / "slow").exists())
        order = TemplateDelete(str(uuid.uuid4()), STORE, 2, 204)
        await daemon.call(storage.TEMPLATE_DELETE, order, Acknowledgement)
        assert slow.wait(240) != 0
    assert client.code(ORIGIN + known.path) == 404
    assert world.leftovers() == []


@pytest_twisted.ensureDeferred
async def test_tls_is_as_strict_as_a_console(
    daemon: Daemon,
    world: World,
    client: Client,
    authority: trustme.CA,
) -> None:
    publish(world)
    known = link()
    await serve(daemon, identity(authority, VM), known)
    url = ORIGIN + known.path
    assert client.curl(url, "--tls-max", "1.1").returncode != 0
    assert client.curl(url, "--tls-max", "1.2").stdout == CONTENT
    assert client.curl(url, "--tls-max", "1.2", "--ciphers", "AES128-SHA").returncode != 0
    assert client.curl(url.replace("https", "http").replace(VM, f"{VM}:443")).returncode != 0
    with pytest.raises(RpcError):
        await daemon.call(EXTRACT_SETUP, identity(authority, "198.51.100.9"), Acknowledgement)
    with pytest.raises(RpcError):
        broken = evolve(identity(authority, VM), private_key_pem="-----BEGIN PRIVATE KEY-----")
        await daemon.call(EXTRACT_SETUP, broken, Acknowledgement)
    assert client.curl(url).stdout == CONTENT


@pytest_twisted.ensureDeferred
async def test_without_tls_the_kernel_sends_the_same_bytes(
    daemon: Daemon,
    world: World,
    client: Client,
) -> None:
    publish(world)
    known = link()
    await serve(daemon, ExtractSetup(f"http://{VM}:443/files", "", ""), known)
    url = f"http://{VM}:443/files{known.path}"
    assert client.get(url) == CONTENT
    assert client.get(url, url) == CONTENT + CONTENT
    assert client.get(url, "-r", "4000000-4999999") == CONTENT[4_000_000:5_000_000]
    several = client.get(url, "-r", "0-9,2000000-2000009")
    assert CONTENT[:10] in several and CONTENT[2_000_000:2_000_010] in several
    assert client.get(url, "--limit-rate", "4M") == CONTENT
    assert client.code(f"http://{VM}:443{known.path}") == 404
    # the header of a client counts only from a configured proxy
    client.get(url, "-H", "X-Forwarded-For: 192.0.2.7", "-r", "0-0")
    assert "192.0.2.7" not in world.log_of("serve")


@pytest_twisted.ensureDeferred
async def test_connections_are_reset_until_there_is_a_certificate(
    daemon: Daemon,
    world: World,
    client: Client,
) -> None:
    kill_all(world.serve_pids())
    refused, reset_in_handshake = 7, 35
    codes: list[int] = []

    def is_reset() -> bool:
        codes.append(client.curl(ORIGIN).returncode)
        return codes[-1] == reset_in_handshake

    await until(is_reset)
    assert set(codes) <= {refused, reset_in_handshake}  # before and after the listener is back


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 5000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500,
     b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
     b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", os.urandom(4096),
     b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"\x16\x03\x01\x40\x00" + b"\1" * 64],
    ids=range(10),
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_malformed_bytes_end_only_their_connection(
    garbage: bytes,
    daemon: Daemon,
    world: World,
    client: Client,
) -> None:
    publish(world)
    known = link()
    await serve(daemon, ExtractSetup(f"http://{VM}:443", "", ""), known)
    client.send(garbage)
    assert client.get(f"http://{VM}:443{known.path}") == CONTENT
