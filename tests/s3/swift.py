# SPDX-License-Identifier: Apache-2.0
"""A real S3 server: OpenStack Swift with s3api and tempauth, one replica in a directory, nginx for TLS.

Its processes have a network namespace with loopback only, and a mount namespace with their own /etc/swift.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import trustme
from attrs import frozen
from pyroute2 import netns

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.s3 import answers, requests
from systemvm.ssvm.s3.connection import S3Connection
from systemvm.ssvm.s3.endpoint import S3Endpoint
from systemvm.ssvm.s3.signing import S3Credentials, Signer

ADDRESS, NAME = "127.0.0.1", "s3.example.test"
PORT, TLS_PORT = 8080, 8443
BUCKET = "images"
CREDENTIALS = S3Credentials("cloud:operator", "a-secret-key")
#: Of the same account.
OTHER_CREDENTIALS = S3Credentials("cloud:second", "another-secret-key")
USERS = (CREDENTIALS, OTHER_CREDENTIALS)
PLAIN = S3Endpoint(False, NAME, PORT, BUCKET)
TLS = S3Endpoint(True, NAME, TLS_PORT, BUCKET)

_SERVERS = {"account": 6202, "container": 6201, "object": 6200}
_SWIFT_CONF = """[swift-hash]
swift_hash_path_suffix = lab
swift_hash_path_prefix = lab
[storage-policy:0]
name = only
default = yes
"""
#: Swift takes a slow machine for a broken one after a second, and updates its listings later.
_PATIENCE = """conn_timeout = 60
node_timeout = 240
container_update_timeout = 240
client_timeout = 240
"""
_STORAGE = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = root
workers = 0
devices = {devices}
mount_check = false
disable_fallocate = true
{patience}
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = f"""[DEFAULT]
bind_ip = 0.0.0.0
bind_port = {PORT}
user = root
workers = 0
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
{_PATIENCE}recoverable_node_timeout = 240
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
USERS
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


@frozen
class Swift:
    """The running server; its bucket exists and is empty."""

    namespace: str
    log: Path
    ca_pem: str
    #: Restarts the server with these users and no others.
    set_users: Callable[[Sequence[S3Credentials]], None]

    def connect(self, endpoint: S3Endpoint) -> socket.socket:
        """Return a connection to the endpoint, made inside of the namespace."""
        return connect_in(self.namespace, endpoint.port)

    def client(
        self,
        endpoint: S3Endpoint,
        credentials: S3Credentials = CREDENTIALS,
        first: socket.socket | None = None,
        errors: list[TransferError] | None = None,
    ) -> S3Connection:
        """Return requests to the bucket; `errors` gets what made it connect again, None: nothing can."""

        def reconnect(error: TransferError) -> socket.socket:
            if errors is None:
                raise error
            errors.append(error)
            return self.connect(endpoint)

        return S3Connection(
            first or self.connect(endpoint),
            endpoint,
            Signer(credentials, endpoint.region),
            reconnect,
            DEFAULT,
            self.ca_pem,
        )


class SwiftBuilder:
    """Start the server, and end it in reverse order."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._namespace = f"swift-{os.getpid()}"
        self._log = directory / "swift.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._proxy: subprocess.Popen[bytes]

    def __enter__(self) -> Swift:
        try:
            return self._build()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def _build(self) -> Swift:
        _run("ip", "netns", "add", self._namespace)
        self._stack.callback(_run, "ip", "netns", "del", self._namespace)
        _run("ip", "-n", self._namespace, "link", "set", "lo", "up")
        self._configure()
        for kind in _SERVERS:
            self._start_server(kind)
        self._proxy = self._start_server("proxy")
        authority = trustme.CA()
        self._start_nginx(authority)
        for port in (*_SERVERS.values(), TLS_PORT):  # a proxy without its servers answers, and fails then
            self._wait_for_listener(port)
        self._wait_until_ready(PORT)
        swift = Swift(self._namespace, self._log, authority.cert_pem.bytes().decode(), self._set_users)
        swift.client(PLAIN).exchange(
            requests.S3Request("PUT"), lambda answer: answers.require_success(answer, "to create a bucket")
        )
        return swift

    def _configure(self) -> None:
        etc, devices = self._directory / "etc", self._directory / "devices"
        etc.mkdir()
        (devices / "d0").mkdir(parents=True)
        (etc / "swift.conf").write_text(_SWIFT_CONF)
        self._write_proxy(USERS)
        for kind, port in _SERVERS.items():
            (etc / f"{kind}-server.conf").write_text(
                _STORAGE.format(kind=kind, port=port, devices=devices, patience=_PATIENCE)
            )
            ring = str(etc / f"{kind}.builder")
            _run("swift-ring-builder", ring, "create", "4", "1", "1")
            _run("swift-ring-builder", ring, "add", f"r1z1-{ADDRESS}:{port}/d0", "1")
            _run("swift-ring-builder", ring, "rebalance")

    def _start_server(self, kind: str) -> subprocess.Popen[bytes]:
        script = 'mount --bind "$0" /etc/swift && exec "$@"'
        return self._start(
            "unshare", "-m", "sh", "-c", script, str(self._directory / "etc"),
            f"/usr/bin/swift-{kind}-server", f"/etc/swift/{kind}-server.conf", "--verbose",
        )  # fmt: skip

    def _write_proxy(self, users: Sequence[S3Credentials]) -> None:
        lines = [f"user_{each.access_key.replace(':', '_')} = {each.secret_key} .admin" for each in users]
        text = _PROXY.replace("USERS", "\n".join(lines))
        (self._directory / "etc" / "proxy-server.conf").write_text(text)

    def _set_users(self, users: Sequence[S3Credentials]) -> None:
        self._write_proxy(users)
        self._processes.remove(self._proxy)
        _end(self._proxy)
        self._proxy = self._start_server("proxy")
        self._wait_until_ready(PORT)

    def _start_nginx(self, authority: trustme.CA) -> None:
        pem = self._directory / "server.pem"
        authority.issue_cert(NAME).private_key_and_cert_chain_pem.write_to_path(str(pem))
        configuration = self._directory / "nginx.conf"
        configuration.write_text(
            f"user root; daemon off; pid {self._directory}/nginx.pid; error_log {self._log};\n"
            "events {} http { access_log off; client_max_body_size 0; proxy_request_buffering off;\n"
            f"client_body_temp_path {self._directory}/body; proxy_temp_path {self._directory}/proxy;\n"
            f"server {{ listen {TLS_PORT} ssl;\n"
            f"ssl_certificate {pem}; ssl_certificate_key {pem};\n"
            f"location / {{ proxy_pass http://{ADDRESS}:{PORT}; proxy_http_version 1.1;\n"
            "proxy_set_header Host $http_host; proxy_set_header Connection ''; } } }\n"
        )
        self._start("nginx", "-c", str(configuration), "-e", str(self._log))

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self._namespace}", *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        self._stack.callback(_end, process)
        return process

    def _wait_for_listener(self, port: int) -> None:
        while True:
            try:
                connect_in(self._namespace, port).close()
                return
            except OSError:
                self._check_running()
                time.sleep(0.1)

    def _check_running(self) -> None:
        ended = [process.args for process in self._processes if process.poll() is not None]
        assert not ended, f"ended instead of listening: {ended}: {self._log.read_text()[-2000:]}"

    def _wait_until_ready(self, port: int) -> None:
        while True:
            try:
                client = HTTPConnection(ADDRESS)
                client.sock = connect_in(self._namespace, port)
                client.request("GET", "/healthcheck")
                if client.getresponse().status == 200:
                    return
            except (OSError, HTTPException):
                pass
            self._check_running()
            time.sleep(0.1)


def connect_in(namespace: str, port: int) -> socket.socket:
    """Connect from a namespace; only the namespace of a thread changes, which ends then."""
    made: list[socket.socket | OSError] = []

    def connect() -> None:
        netns.setns(namespace)
        try:
            made.append(socket.create_connection((ADDRESS, port), 60))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    return result


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the session that the process leads."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
