# SPDX-License-Identifier: Apache-2.0
"""The SSVM's real processes in one network namespace, servers in another, and a tmpfs as the store.

The processes are socket-activated, as systemd does it (socket_unit.py); the agent's role runs in the test,
and its daemon is a peer on a UNIX socket.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import trustme
from attrs import frozen

from systemvm.service.slowness import scaled_s
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_messages import mount_id
from systemvm.wire.storage import Store

LAB = Path(__file__).resolve().parent
AGENTS = LAB.parents[2] / "agents"
SOCKET_UNIT = LAB / "socket_unit.py"
#: Of serve's unit.
OPENSSL_CONF = LAB.parents[2] / "appliances/base/overlay/etc/systemvm/openssl.cnf"
NAME = "images.example.test"
SERVER, VM = "203.0.113.10", "203.0.113.100"
PROXY = ("203.0.113.11", 3128)
DENIED = ("10.11.0.1", "10.12.0.2", "169.254.0.1")
STORE = Store("10.12.0.2", "/export/secondary")
DEBIANS_RECEIVE_BUFFER = "net.ipv4.tcp_rmem=4096 131072 6291456"
BOOT = {
    "type": "secstorage", "name": "s-1-VM", "eth0ip": "169.254.10.2", "eth0mask": "255.255.0.0",
    "eth1ip": "10.11.0.100", "eth1mask": "255.255.255.0", "mgmtcidr": "10.11.0.0/24",
    "eth2ip": VM, "eth2mask": "255.255.255.0", "eth3ip": "10.12.0.100", "eth3mask": "255.255.255.0",
    "storageip": "10.12.0.100", "storagenetmask": "255.255.255.0", "public.network.device": "eth2",
    "private.network.device": "eth1", "secondaryStorageServerAddress": "10.12.0.2", "host": "169.254.0.1",
}  # fmt: skip
QUICK = {
    "connect_timeout_s": 3.0, "headers_timeout_s": 3.0, "stall_timeout_s": 2.0, "slow_window_s": 3.0,
    "slow_window_bytes": 1000, "store_timeout_s": 15.0, "trailing_timeout_s": 1.0,
    "retry_budget_s": 4.0, "first_byte_budget_s": 1.0, "retry_base_delay_s": 0.05, "retry_max_delay_s": 0.2,
}  # fmt: skip


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class Nginx:
    """The well-behaved server, which a test can stop and start."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._process = start()

    def stop(self) -> None:
        _end(self._process)

    def start(self) -> None:
        self._process = self._start()


@frozen
class World:
    """Paths, processes and logs of the SSVM under test."""

    paths: Paths
    store: Path
    files: Path  # what nginx serves
    journal: Path  # connections to listeners that nothing may reach
    logs: Path
    ca_pem: str
    nginx: Nginx
    vm_namespace: str
    world_namespace: str
    proxied: Path  # what the proxy received
    access_log: Path  # how many bytes nginx has sent of each request below /counted/
    dns_queries: Path  # the number of address queries to flipping_dns.py

    def leftovers(self) -> list[str]:
        """Return every file on the store."""
        found = [Path(folder, name) for folder, _, names in os.walk(self.store) for name in names]
        return sorted(str(path.relative_to(self.store)) for path in found)

    def job_directories(self) -> list[str]:
        jobs = self.store / ".systemvm-jobs"
        found = (Path(folder, name) for folder, names, _ in os.walk(jobs) for name in names)
        return sorted(str(path.relative_to(self.store)) for path in found if path.parent.parent == jobs)

    def forbidden_connections(self) -> list[str]:
        return self.journal.read_text().split()

    def fetch_pids(self) -> list[int]:
        return _pids("systemvm.ssvm.fetch.main")

    def serve_pids(self) -> list[int]:
        return _pids("systemvm.ssvm.serve.main")

    def store_helper_pids(self) -> list[int]:
        return _pids("systemvm.ssvm.store.operations")

    def mover_pids(self) -> list[int]:
        servers = _pids("systemvm.ssvm.mover.forkserver")
        return [pid for pid in servers if _comm(pid) == "mover"]

    def fork_server_pids(self) -> list[int]:
        return [pid for pid in _pids("systemvm.ssvm.mover.forkserver") if _comm(pid) == "mover-server"]

    def helper_pids(self) -> list[int]:
        return _pids("systemvm.ssvm.store.operations")

    def in_world(self, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Run a program as a client on the public network, whatever its exit code."""
        entered = ["nsenter", f"--net=/run/netns/{self.world_namespace}", *command]
        return subprocess.run(entered, capture_output=True, timeout=timeout_s, check=False)

    def in_vm(self, *command: str) -> str:
        entered = ["nsenter", f"--net=/run/netns/{self.vm_namespace}", *command]
        return subprocess.run(entered, capture_output=True, text=True, timeout=120, check=True).stdout

    def log_of(self, name: str) -> str:
        return (self.logs / name).read_text(errors="replace")


class Builder:
    """Build a World, and remove it in reverse order."""

    def __init__(
        self,
        directory: Path,
        store_size: str = "96m",
        limits: Mapping[str, float] = QUICK,
        fetch_by: Sequence[str] = ("-m",),
    ) -> None:
        """`fetch_by` are Python's arguments in front of fetch's module."""
        self._limits = limits
        self._fetch_by = fetch_by
        self._directory = directory
        self._store_size = store_size
        self._stack = ExitStack()
        self._vm, self._world = f"ssvm-v{os.getpid()}", f"ssvm-w{os.getpid()}"

    def __enter__(self) -> World:
        try:
            return self._build()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def _build(self) -> World:
        directory = self._directory
        files, logs, sockets, mounts = (directory / name for name in ("files", "logs", "run", "mnt"))
        for made in (files, logs, sockets, mounts):
            made.mkdir()
        self._network()
        store = mounts / mount_id(STORE)
        store.mkdir()
        run(
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size={self._store_size}",
            f"{STORE.server}:{STORE.path}",
            str(store),
        )
        self._stack.callback(run, "umount", str(store))
        names = ("fetch", "store", "mount", "serve", "upload")
        paths = Paths(mounts, *(sockets / f"{name}.sock" for name in names))
        authority = trustme.CA()
        ca_pem = authority.cert_pem.bytes().decode()
        journal = directory / "journal"
        journal.touch()
        nginx = self._servers(authority, files, logs, journal)
        self._helpers(paths, logs)
        seen = [directory / name for name in ("proxied", "logs/access", "dns-queries")]
        return World(paths, store, files, journal, logs, ca_pem, nginx, self._vm, self._world, *seen)

    def _network(self) -> None:
        for name in (self._vm, self._world):
            run("ip", "netns", "add", name)
            self._stack.callback(run, "ip", "netns", "del", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            # as in the appliance: a closed connection wastes what its receive buffer holds
            run("nsenter", f"--net=/run/netns/{name}", "sysctl", "-qw", DEBIANS_RECEIVE_BUFFER)
        run(
            "ip",
            "-n",
            self._vm,
            "link",
            "add",
            "eth2",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self._world,
        )
        mine = ("203.0.113.100/24", "10.11.0.100/24", "10.12.0.100/24", "169.254.10.2/16")
        theirs = ("203.0.113.10/24", "203.0.113.11/24", "10.11.0.1/24", "10.12.0.2/24", "169.254.0.1/16")
        for name, device, addresses in ((self._vm, "eth2", mine), (self._world, "eth0", theirs)):
            for address in addresses:
                run("ip", "-n", name, "addr", "add", address, "dev", device)
            run("ip", "-n", name, "link", "set", device, "up")

    def _servers(self, authority: trustme.CA, files: Path, logs: Path, journal: Path) -> Nginx:
        directory = self._directory
        for label, names in (("good", (NAME, SERVER)), ("other", ("other.example.test",))):
            certificate = authority.issue_cert(*names)
            certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{label}.pem"))
        untrusted = trustme.CA().issue_cert(NAME)
        untrusted.private_key_and_cert_chain_pem.write_to_path(str(directory / "untrusted.pem"))
        tls = "".join(
            f"server {{ listen {SERVER}:{port} ssl; ssl_certificate {directory}/{label}.pem; "
            f"ssl_certificate_key {directory}/{label}.pem; "
            f"location /paced/ {{ alias {files}/; limit_rate 2m; }} "
            f"location /down/ {{ return 302 http://{NAME}/image.raw; }} location / {{ root {files}; }} }}\n"
            for port, label in ((443, "good"), (8443, "other"), (9443, "untrusted"))
        )
        (directory / "nginx.conf").write_text(
            f"user root; daemon off; worker_processes 1;\n"
            f"pid {directory}/nginx.pid; error_log {logs}/nginx.log;\n"
            "events {} http { access_log off; log_format sent $body_bytes_sent; sendfile on; tcp_nopush on;\n"
            "types {} default_type application/octet-stream;\n"
            f"server {{ listen {SERVER}:80; location /slow/ {{ alias {files}/; limit_rate 400k; }}"
            f" location /paced/ {{ alias {files}/; limit_rate 2m; }}"
            f" location /capped/ {{ alias {files}/; limit_rate 4m; access_log {logs}/access sent; }}"
            f" location /counted/ {{ alias {files}/; limit_rate 20m; access_log {logs}/access sent; }}"
            f" location / {{ root {files}; }} }}\n{tls}}}\n"
        )
        command = ["nginx", "-c", str(directory / "nginx.conf"), "-e", str(logs / "nginx.log")]
        nginx = Nginx(lambda: self._start("nginx", self._world, *command))
        denied = [f"{address}:80" for address in DENIED]
        self._start(
            "bad",
            self._world,
            sys.executable,
            str(LAB / "bad_server.py"),
            str(journal),
            f"{SERVER}:8000",
            *denied,
        )
        # the SSVM's own loopback and public address have a listener too
        inside = ["127.0.0.1:80", f"{VM}:80"]
        self._start(
            "inside",
            self._vm,
            sys.executable,
            str(LAB / "bad_server.py"),
            str(journal),
            f"{VM}:8000",
            *inside,
        )
        (directory / "proxied").touch()
        self._start(
            "proxy", self._world, sys.executable, str(LAB / "connect_proxy.py"),
            f"{PROXY[0]}:{PROXY[1]}", str(directory / "proxied"),
        )  # fmt: skip
        hosts = {NAME: [SERVER], "loop.example.test": ["127.0.0.1"],
                 "mixed.example.test": [SERVER, "127.0.0.1"],
                 "management.example.test": ["10.11.0.1"], "other.example.test": [SERVER]}  # fmt: skip
        self._start(
            "flipping-dns", self._world, sys.executable, str(LAB / "flipping_dns.py"),
            f"{SERVER}:5354", SERVER, "127.0.0.1", str(directory / "dns-queries"),
        )  # fmt: skip
        records = [f"--host-record={name},{address}" for name, found in hosts.items() for address in found]
        self._start(
            "dnsmasq", self._world, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
            "--no-resolv", "--no-hosts",
            "--bind-interfaces", f"--listen-address={SERVER}", "--user=root", "--pid-file=",
            f"--server=/flip.example.test/{SERVER}#5354", *records,
        )  # fmt: skip
        for address, port in ((SERVER, 80), (SERVER, 443), (SERVER, 8000), (SERVER, 53), PROXY):
            self._wait_for(address, port)
        return nginx

    def _helpers(self, paths: Paths, logs: Path) -> None:
        python = [sys.executable, "-m"]
        mount_root = ["--mount-root", str(paths.mount_root)]
        for path, module in ((paths.store_socket, "operations"), (paths.mount_socket, "mount")):
            name = path.name.removesuffix(".sock")
            service = [*python, f"systemvm.ssvm.store.{module}", *mount_root]
            self._activate(name, None, path, service, options=["-l", str(path)])
        resolv_conf = self._directory / "resolv.conf"
        resolv_conf.write_text(f"nameserver {SERVER}\noptions timeout:1 attempts:2\n")
        fetch = [
            sys.executable,
            *self._fetch_by,
            "systemvm.ssvm.fetch.main",
            "--store-socket",
            str(paths.store_socket),
            "--limits",
            json.dumps(self._limits),
        ]
        local = ["-l", str(paths.fetch_socket), "-l", str(paths.upload_socket), "--fdname=fetch:upload"]
        resolving = f'mount --bind {resolv_conf} /etc/resolv.conf; exec "$@"'
        inside = ["unshare", "-m", "sh", "-c", resolving, "sh"]
        self._activate("fetch", self._vm, paths.fetch_socket, fetch, options=local, inside=inside)
        serve = [*python, "systemvm.ssvm.serve.main", "--store-socket", str(paths.store_socket)]
        serve += ["--upload-socket", str(paths.upload_socket)]
        public = ["-l", str(paths.serve_socket), "-l", f"{VM}:443", "--fdname=control:public"]
        settings = ["-E", f"OPENSSL_CONF={OPENSSL_CONF}"]
        self._activate("serve", self._vm, paths.serve_socket, serve, options=[*settings, *public])

    def _activate(
        self, name: str, namespace: str | None, path: Path, service: Sequence[str], *,
        options: Sequence[str], inside: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Start a service behind its sockets, of which `path` is one."""
        activator = [*inside, "systemd-socket-activate", "-E", "PYTHONPATH", *options]
        process = self._start(name, namespace, *activator, sys.executable, str(SOCKET_UNIT), *service)
        self._wait_until_listening(process.pid, path)

    def _start(self, name: str, namespace: str | None, *command: str) -> subprocess.Popen[bytes]:
        entered = ["nsenter", f"--net=/run/netns/{namespace}", *command] if namespace else list(command)
        with (self._directory / "logs" / name).open("ab") as log:
            process = subprocess.Popen(
                entered, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(AGENTS)},
            )  # fmt: skip
        self._stack.callback(_end, process)
        return process

    def _wait_for(self, address: str, port: int) -> None:
        deadline_s = time.monotonic() + scaled_s(60.0)
        while True:
            connected = subprocess.run(
                ["nsenter", f"--net=/run/netns/{self._vm}", sys.executable, "-c", _CONNECT,
                 address, str(port)],
                capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            if connected.returncode == 0:
                return
            assert time.monotonic() < deadline_s, f"no server listens on {address}:{port}"
            time.sleep(0.05)

    @staticmethod
    def _wait_until_listening(pid: int, path: Path) -> None:
        """Wait without a connection, which would start the service: its file exists a moment before."""
        deadline_s = time.monotonic() + scaled_s(60.0)
        while not any(
            line.endswith(f" {path}") and int(line.split()[3], 16) & _ACCEPTS
            for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()
        ):
            assert time.monotonic() < deadline_s, f"nothing listens at {path}"
            time.sleep(0.02)


_ACCEPTS = 1 << 16  # __SO_ACCEPTCON in the flags of /proc/net/unix
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 20).close()"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the session that the process leads, and with it all of its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def kill_all(pids: Iterable[int]) -> None:
    """Kill processes, some of which can have ended by themselves."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids(module: str) -> list[int]:
    """Return the processes below this one whose arguments name a module."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(SOCKET_UNIT).encode() in argv or not argv[0].endswith(b"python"):
            continue
        if any(module.encode() in argument for argument in argv):
            found.append(int(path.parent.name))
    return [pid for pid in found if _descends(pid, os.getpid())]


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(stat.rpartition(")")[2].split()[1])
    return False
