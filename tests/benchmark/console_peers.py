# SPDX-License-Identifier: Apache-2.0
"""The proxies of `make bench-console`: the CPVM's agent, nginx and websockify, before one VNC server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import trustme
from attrs import evolve, frozen

from systemvm.guest.boot_argument_source import store
from systemvm.guest.paths import GuestPaths
from systemvm.wire import boot_arguments

TOP = Path(__file__).resolve().parents[2]
WEBSOCKIFY = TOP / "build/websockify/bin/websockify"
NOVNC = TOP / "build/novnc"
START_TIMEOUT_S = 60.0
_AGENT = "v-2-VM"
#: Sessions in a test, a descriptor at each side, and some.
DESCRIPTORS = 8192

#: Starts a program with a socket as systemd does: descriptor 3, and the pid in LISTEN_PID.
_AS_SYSTEMD = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


Command = list[str | Path | int]


@frozen
class Proxy:
    """A console proxy that runs: its process and descendants are measured together."""

    name: str
    pid: int
    port: int
    path: str  # of its WebSocket; empty when it passes TLS's content as it is

    def pids(self) -> list[int]:
        """Return the process and all its descendants."""
        found, fresh = [], [self.pid]
        while fresh:
            pid = fresh.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                fresh += [int(word) for word in read(children).split()]
        return found

    def cpu_s(self) -> float:
        """Return the CPU seconds of all processes, with those of children that were waited for."""
        ticks = 0
        for pid in self.pids():
            fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def own_cpu_ms(self) -> float:
        """Return the CPU milliseconds of the process itself, to the nanosecond: not those of its children."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(read(task).split()[0]) for task in tasks) / 1e6

    def tree_cpu_ms(self) -> float:
        """Return the CPU milliseconds of the process and its children that run, to the nanosecond."""
        found = 0
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                found += int((read(task).split() or ["0"])[0])
        return found / 1e6

    def descriptors(self) -> int:
        """Return how many descriptors are open in all processes."""
        return sum(len(names(Path(f"/proc/{pid}/fd"))) for pid in self.pids())

    def resident_kb(self) -> float:
        return self._memory_kb("status", "VmRSS:")

    def proportional_kb(self) -> float:
        """Return the PSS: memory that forked processes share counts once."""
        return self._memory_kb("smaps_rollup", "Pss:")

    def _memory_kb(self, file: str, key: str) -> float:
        kib = 0
        for pid in self.pids():
            for line in read(Path(f"/proc/{pid}/{file}")).splitlines():
                if line.startswith(key):
                    kib += int(line.split()[1])
        return kib * 1.024


def read(path: Path) -> str:
    """Return the text of a file of /proc; empty when its process has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def names(folder: Path) -> list[Path]:
    """Return what is in a folder of /proc; nothing when its process has ended."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


class Bench:
    """Builds the programs, starts source and proxies in a folder, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = folder / "console_client"
        self._processes: list[subprocess.Popen[str]] = []
        self._build("console_source")
        self._build("console_client", "-lssl", "-lcrypto")
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (folder / "public.pem").write_bytes(chain)
        (folder / "public.key").write_bytes(issued.private_key_pem.bytes())
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.source_port: int = listening.getsockname()[1]
        self._start([folder / "console_source", listening.fileno()], listening)

    def _build(self, name: str, *libraries: str) -> None:
        source = Path(__file__).with_name(f"{name}.c")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", self.folder / name, source, *libraries], check=True)

    def _start(
        self,
        command: Command,
        inherited: socket.socket | None = None,
        environment: dict[str, str] | None = None,
        log: IO[bytes] | None = None,
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if log is None else log,
            stderr=log,
            text=True,
            env=environment,
            pass_fds=[] if inherited is None else [inherited.fileno()],
        )
        if inherited is not None:
            inherited.close()
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            process.wait(30)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    # -- the proxies

    def start_agent(self, name: str = "agent", tree: Path = TOP) -> Proxy:
        """Start the CPVM's agent of a source tree as its unit does, beside a double of the daemon."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = listening.getsockname()[1]
        folder = self.folder / f"agent-{port}"
        root, credentials = folder / "root", folder / "credentials"
        paths = GuestPaths(root, credentials)
        for made in (paths.run, credentials, paths.image_json.parent, root / "opt/systemvm"):
            made.mkdir(parents=True, exist_ok=True)
        program = Path(__file__).with_name("console_daemon.py")
        origin = f"https://127.0.0.1:{port}"
        daemon = self._start([sys.executable, program, self.folder, _AGENT, self.source_port, origin])
        number = _line(daemon)
        paths.image_json.write_text('{"version": "7", "sha256": "ab", "role": "cpvm", "built": "now"}')
        subprocess.run(["cp", "-R", NOVNC, root / "opt/systemvm/novnc"], check=True)
        text = f"type=consoleproxy name={_AGENT} host=127.0.0.1 port={number} eth0ip=169.254.1.2"
        store(text, boot_arguments.parse(text), paths)
        identity = (self.folder / "identity.pem").read_bytes()
        (credentials / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(identity)
        run: Command = [sys.executable, "-m", "systemvm.guest.agent", "--root", root]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(tree / "agents"),
            "CREDENTIALS_DIRECTORY": str(credentials),
            "OPENSSL_CONF": str(TOP / "appliances/base/overlay/etc/systemvm/openssl.cnf"),
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "console",
        }
        with (folder / "agent.log").open("wb") as log:
            agent = self._start(
                [sys.executable, "-c", _AS_SYSTEMD, listening.fileno(), *run], listening, environment, log
            )
        if _line(daemon) != "ready":
            raise SystemExit(f"error: the agent does not start: {(folder / 'agent.log').read_text()}")
        return Proxy(name, agent.pid, port, "/websockify?token=r{run}-#")

    def filtered(self, agent: Proxy) -> Proxy:
        """Return the same agent with sessions whose messages it reads."""
        return evolve(agent, name="filtered", path="/websockify?token=f{run}-#")

    def recorded(self, agent: Proxy) -> Proxy:
        """Return the same agent with sessions that it records and sends to the daemon."""
        return evolve(agent, name="recorded", path="/websockify?token=c{run}-#")

    def start_nginx(self) -> Proxy:
        """Start nginx with one worker that ends TLS and passes the content on."""
        port = _free_port()
        (self.folder / "nginx.conf").write_text(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so; user root; worker_processes 1;\n"
            f"worker_rlimit_nofile {DESCRIPTORS}; daemon off; pid {self.folder}/nginx.pid;\n"
            f"error_log {self.folder}/nginx.log; events {{ worker_connections {DESCRIPTORS}; }}\n"
            f"stream {{ server {{ listen 127.0.0.1:{port} ssl backlog=128;\n"
            f"ssl_certificate {self.folder}/public.pem; ssl_certificate_key {self.folder}/public.key;\n"
            "ssl_protocols TLSv1.3; proxy_buffer_size 64k;\n"
            f"proxy_pass 127.0.0.1:{self.source_port}; }} }}\n"
        )
        log = self.folder / "nginx.log"
        process = self._start(["nginx", "-c", self.folder / "nginx.conf", "-e", log])
        _wait_for(port, process)
        return Proxy("nginx", process.pid, port, "")

    def start_websockify(self) -> Proxy:
        """Start websockify with a file of tokens."""
        port = _free_port()
        (self.folder / "tokens").write_text(f"bench: 127.0.0.1:{self.source_port}\n")
        files: Command = ["--cert", self.folder / "public.pem", "--key", self.folder / "public.key"]
        tokens: Command = ["--token-plugin", "TokenFile", "--token-source", self.folder / "tokens"]
        with (self.folder / "websockify.log").open("wb") as log:
            process = self._start([WEBSOCKIFY, "--ssl-only", *files, *tokens, f"127.0.0.1:{port}"], log=log)
        _wait_for(port, process)
        return Proxy("websockify", process.pid, port, "/websockify?token=bench")


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until a program listens."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(f"error: {process.args!r} does not listen") from None
            time.sleep(0.05)
        else:
            return
