# SPDX-License-Identifier: Apache-2.0
"""A small mirror of Debian, a package index and an npm registry with a private CA; and a proxy.

The mirror's name is mirror.test, which only the proxy resolves: a request that succeeds went through it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import select
import socket
import ssl
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import trustme
from attrs import field, frozen

NAME = "mirror.test"
SUITE = "trixie"


@frozen
class Mirror:
    """The files below `top`, served on `port`; `requested_hosts` is the proxy's log."""

    top: Path
    keyring: Path
    ca: Path
    port: int
    proxy_port: int
    requested_hosts: list[str] = field(factory=list)

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return all variables that an operator with such a mirror sets."""
        proxy = f"http://127.0.0.1:{self.proxy_port}"
        return {
            "MIRROR": f"{self.url}/debian", "MIRROR_SECURITY": "none", "MIRROR_KEYRING": str(self.keyring),
            "CA_BUNDLE": str(self.ca), "http_proxy": proxy, "https_proxy": proxy, "no_proxy": "",
            "PIP_INDEX_URL": f"{self.url}/simple", "PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "",
            "npm_config_registry": f"{self.url}/npm/", "npm_config_cache": str(self.top / "npm-cache"),
            "npm_config_fetch_retries": "0",
        }  # fmt: skip

    def publish_debs(self, *packages: dict[str, str]) -> None:
        """Replace the mirror's packages by these, and sign the index."""
        debian = self.top / "debian"
        pool = debian / "pool"
        for old in pool.glob("*.deb"):
            old.unlink()
        blocks = [_deb(pool, control) for control in packages]
        for suite, index in ((SUITE, "\n".join(blocks)), (f"{SUITE}-updates", "")):
            place = debian / "dists" / suite
            (place / "main/binary-amd64").mkdir(parents=True, exist_ok=True)
            (place / "main/binary-amd64/Packages").write_text(index)
            sha256 = hashlib.sha256(index.encode()).hexdigest()
            release = (
                f"Origin: Debian\nLabel: Debian\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\n"
                "Components: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
                f"SHA256:\n {sha256} {len(index)} main/binary-amd64/Packages\n"
            )
            signed = place / "InRelease"
            before_s = signed.stat().st_mtime if signed.exists() else 0.0
            subprocess.run(
                ["gpg", "--homedir", self.top / "gpg", "--batch", "--yes", "--clearsign", "-o",
                 signed], input=release.encode(), check=True, capture_output=True,
            )  # fmt: skip
            # HTTP dates have whole seconds: apt would regard a change within one as no change
            changed_s = max(time.time(), before_s + 1.0)
            os.utime(signed, (changed_s, changed_s))

    def publish_wheel(self, name: str, version: str) -> str:
        """Publish a wheel and return its SHA-256 hash."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as wheel:
            about = f"{name}-{version}.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
        place = self.top / "simple" / name
        place.mkdir(parents=True, exist_ok=True)
        file_name = f"{name}-{version}-py3-none-any.whl"
        (place / file_name).write_bytes(content.getvalue())
        (place / "index.html").write_text(f'<!DOCTYPE html><a href="{file_name}">{file_name}</a>')
        return hashlib.sha256(content.getvalue()).hexdigest()

    def publish_npm(self, name: str, version: str, files: dict[str, str]) -> str:
        """Publish a package and return its integrity, as npm's locks hold it."""
        raw = io.BytesIO()
        with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed, tarfile.open(None, "w", packed) as tar:
            about = json.dumps({"name": name, "version": version, "license": "MPL-2.0"})
            for path, content in {"package.json": about, **files}.items():
                member = tarfile.TarInfo(f"package/{path}")
                member.size = len(content.encode())
                tar.addfile(member, io.BytesIO(content.encode()))
        place = self.top / "npm"
        place.mkdir(exist_ok=True)
        (place / "package.tgz").write_bytes(raw.getvalue())
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(raw.getvalue()).digest()).decode()
        dist = {"tarball": f"{self.url}/npm/package.tgz", "integrity": integrity}
        document = {
            "name": name, "dist-tags": {"latest": version},
            "versions": {version: {"name": name, "version": version, "dist": dist}},
        }  # fmt: skip
        (place / name.replace("/", "%2f")).write_text(json.dumps(document))
        return integrity


def _deb(pool: Path, control: dict[str, str]) -> str:
    """Build a package and return its block of the index."""
    fields = {
        "Architecture": "all",
        "Maintainer": "nobody <nobody@mirror.test>",
        "Description": "a test",
        **control,
    }
    text = "".join(f"{key}: {value}\n" for key, value in fields.items())
    tree = pool / "tree"
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN/control").write_text(text)
    name = f"{fields['Package']}_{fields['Version'].rpartition(':')[2]}_{fields['Architecture']}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, pool / name],
        check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "0"},
    )  # fmt: skip
    content = (pool / name).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return f"{text}Filename: pool/{name}\nSize: {len(content)}\nSHA256: {sha256}\n"


def signing_key(home: Path, keyring: Path) -> None:
    """Create a key without a passphrase in `home`, its public half in `keyring`."""
    home.mkdir(mode=0o700)
    gpg: list[str | Path] = ["gpg", "--homedir", home, "--batch", "--quiet"]
    subprocess.run(
        [*gpg, "--passphrase", "", "--quick-gen-key", "mirror", "ed25519", "sign"],
        check=True,
        capture_output=True,
    )
    subprocess.run([*gpg, "--export", "-o", keyring], check=True, capture_output=True)


@contextmanager
def small_mirror(top: Path) -> Iterator[Mirror]:
    """Serve a mirror and its proxy on loopback until the end of the block."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(top / "ca.pem")
    signing_key(top / "gpg", top / "keyring.gpg")
    requested_hosts: list[str] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(NAME).configure_cert(context)
    with _serving(_files_of(top), context) as server, _serving(_proxy_to(requested_hosts)) as proxy:
        port, proxy_port = server.server_address[1], proxy.server_address[1]
        yield Mirror(top, top / "keyring.gpg", top / "ca.pem", port, proxy_port, requested_hosts)
    subprocess.run(["gpgconf", "--homedir", top / "gpg", "--kill", "gpg-agent"], check=True)


@contextmanager
def _serving(
    handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None
) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if context is not None:  # before the thread, which waits for the socket's number
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _files_of(top: Path) -> type[BaseHTTPRequestHandler]:
    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(top))

        def translate_path(self, path: str) -> str:
            # npm requests @scope%2fname, and the file has that name
            if path.startswith("/npm/@"):
                return str(top / "npm" / path.removeprefix("/npm/").replace("%2F", "%2f"))
            return super().translate_path(path)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Files


def _proxy_to(requested_hosts: list[str]) -> type[BaseHTTPRequestHandler]:
    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            host, port = self.path.split(":")
            requested_hosts.append(host)
            if host != NAME:
                self.send_error(502)
                return
            with socket.create_connection(("127.0.0.1", int(port)), timeout=120) as far:
                self.send_response(200)
                self.end_headers()
                _splice(self.connection, far)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Proxy


def _splice(near: socket.socket, far: socket.socket) -> None:
    while True:
        for ready in select.select([near, far], [], [], 30)[0]:
            data = ready.recv(65536)
            if not data:
                return
            (far if ready is near else near).sendall(data)
