# SPDX-License-Identifier: Apache-2.0
"""The console's role on the epoll reactor, as the agent runs it, with a fake daemon.

Started by `console_process.ConsoleProcess` with a folder that holds `opt/systemvm/novnc`, an inherited
listening socket, and orders as JSON lines on its standard input; the reply to each is one line.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any, cast

import msgspec
from twisted.internet import epollreactor

from systemvm.rpc.core.peer import Peer

epollreactor.install()

from twisted.internet import reactor  # noqa: E402
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.logger import globalLogBeginner, textFileLogObserver  # noqa: E402

from systemvm.cpvm import role  # noqa: E402
from systemvm.guest.boot_argument_source import store  # noqa: E402
from systemvm.guest.context import AgentContext  # noqa: E402
from systemvm.guest.paths import GuestPaths  # noqa: E402
from systemvm.management.pki.authority import CertificateAuthority  # noqa: E402
from systemvm.management.pki.control import ControlAuthority  # noqa: E402
from systemvm.rpc.core.errors import REFUSED, RpcError  # noqa: E402
from systemvm.rpc.core.method import Call, Caller, MethodTable  # noqa: E402
from systemvm.rpc.stream.listener import listen  # noqa: E402
from systemvm.web import http_site, tls_port  # noqa: E402
from systemvm.wire import boot_arguments  # noqa: E402
from systemvm.wire.acknowledgement import Acknowledgement  # noqa: E402
from systemvm.wire.console import (  # noqa: E402
    ConsoleClosed,
    ConsoleLoad,
    ConsolePower,
    ConsoleScrollback,
    ConsoleSession,
    ConsoleTarget,
    MachinePower,
)
from systemvm.wire.recording import (  # noqa: E402
    CONSOLE_RECORD,
    CONSOLE_RECORDED,
    CONSOLE_RECORDER,
    RecordedEnd,
    RecordedPiece,
    RecordingRefusal,
)
from systemvm.wire.role import Role  # noqa: E402

NAME = "v-2-VM"


class FakeDaemon:
    """The daemon's end of the control channel."""

    def __init__(self, recordings: Path) -> None:
        self.away = False
        self.tokens: dict[str, dict[str, Any]] = {}
        self.targets: dict[str, dict[str, Any]] = {}
        self.scrollbacks: dict[str, bytes] = {}
        self.calls: list[dict[str, Any]] = []
        self.recordings = recordings  # the directory that has the files of recordings
        self.power: dict[str, Any] | None = {"state": "Running", "actions": []}

    async def call(self, method: str, params: Any = None, **options: Any) -> Any:
        return getattr(self, method.replace(".", "_"))(params)

    def notify(self, method: str, params: Any = None, *, replaces: str | None = None) -> None:
        assert isinstance(params, ConsoleLoad)
        self.calls.append({"method": method, "sessions": params.session_ids})

    def console_authorize(self, params: Any) -> ConsoleSession:
        self.calls.append({"method": "console.authorize", "client": params.client_address})
        token = self.tokens.get(params.token)
        if token is None:
            raise RpcError.refused("token_unknown", "unknown")
        if token.get("refuse"):
            raise RpcError.refused(token["refuse"], "refused")
        if token.get("spent"):
            raise RpcError.refused("token_used", "used")
        token["spent"] = True
        return msgspec.convert(token["session"], ConsoleSession)

    def console_target(self, params: Any) -> ConsoleTarget:
        self.calls.append({"method": "console.target", "session": params.session_id})
        target = self.targets[params.session_id]
        if "refuse" in target:
            raise RpcError(REFUSED, "refused", {"reason": target["refuse"]})
        return msgspec.convert(target, ConsoleTarget)

    def console_power(self, params: ConsolePower) -> MachinePower:
        action = None if params.action is None else params.action.value
        self.calls.append({"method": "console.power", "session": params.session_id, "action": action})
        if self.power is None:
            raise RpcError.refused("power_refused", "refused")
        return msgspec.convert(self.power, MachinePower)

    def console_scrollback(self, params: Any) -> ConsoleScrollback:
        self.calls.append({"method": "console.scrollback", "session": params.session_id})
        return ConsoleScrollback(self.scrollbacks.get(params.session_id, b""))

    def console_closed(self, params: ConsoleClosed) -> None:
        self.calls.append(
            {
                "method": "console.closed",
                "session": params.session_id,
                "reason": params.reason,
                **_end(params),
            }
        )

    def console_record(self, piece: RecordedPiece) -> None:
        with (self.recordings / piece.recording_id).open("ab") as file:
            assert piece.offset <= file.tell()
            file.truncate(piece.offset)
            file.write(piece.data)

    def console_recorded(self, ended: RecordedEnd) -> None:
        self.calls.append({"method": "console.recorded", "recording": ended.recording_id, "code": ended.code})


def serve_recorder(daemon: FakeDaemon, paths: GuestPaths) -> None:
    """Listen for the agent's recorder, which has a connection of its own, and give both their identities."""
    authority = ControlAuthority(CertificateAuthority.create("lab"))
    identity = authority.daemon_identity("lab")
    methods = MethodTable("fake daemon", "1")

    async def answer(call: Call, params: Any) -> Acknowledgement:
        if isinstance(params, RecordedPiece):
            if daemon.away:
                raise RpcError.refused(RecordingRefusal.STORE_AWAY, "away")
            daemon.console_record(params)
        elif isinstance(params, RecordedEnd):
            daemon.console_recorded(params)
        return Acknowledgement()

    cpvms = frozenset({Role.CPVM.value})
    for name, kind in (
        (CONSOLE_RECORDER, None),
        (CONSOLE_RECORD, RecordedPiece),
        (CONSOLE_RECORDED, RecordedEnd),
    ):
        methods.add(name, answer, params=cast(Any, kind), result=Acknowledgement, roles=cpvms)

    def listening(port: Any) -> None:
        for directory in (paths.agent_state, paths.run, paths.image_json.parent):
            directory.mkdir(parents=True, exist_ok=True)
        paths.image_json.write_text('{"version": "7", "sha256": "ab", "role": "cpvm", "built": "now"}')
        text = f"type=consoleproxy name={NAME} host=127.0.0.1 port={port.getHost().port} eth0ip=127.0.0.1"
        store(text, boot_arguments.parse(text), paths)
        paths.own_identity.write_bytes(authority.bootstrap(NAME, Role.CPVM).to_pem_bundle())

    listen(
        cast(Any, reactor), lambda: identity, methods, interface="127.0.0.1", port=0,
        known=lambda caller: None, on_connected=lambda peer: None, on_lost=lambda peer, why: None,
    ).addCallback(listening)  # fmt: skip


def _end(closed: ConsoleClosed) -> dict[str, Any]:
    return {"code": closed.code, "sent": closed.sent_bytes, "received": closed.received_bytes}


def write_line(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    root, descriptor, log_path = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    log_file = log_path.open("w", encoding="utf-8", buffering=1)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(log_file)], redirectStandardIO=False)
    recordings = root / "recordings"
    recordings.mkdir(exist_ok=True)
    paths = GuestPaths(root)
    daemon = FakeDaemon(recordings)
    serve_recorder(daemon, paths)
    context = AgentContext(
        reactor=reactor,
        paths=paths,
        name=NAME,
        role=Role.CPVM,
        boot={},
        methods=MethodTable("console lab", "1"),
        sockets={role.SOCKET_NAME: descriptor},
        find_peer=lambda: None if daemon.away else cast(Peer, daemon),
    )
    tls_port.HANDSHAKE_DEADLINE_S = 2.0  # tests wait for these
    http_site.REQUEST_DEADLINE_S = 8
    role.LOAD_INTERVAL_S = 0.5
    console = role.ConsoleRole(context)

    def resident_kib() -> int:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def execute(order: dict[str, Any]) -> Any:
        match order.pop("do"):
            case "setup":
                call = Call(Caller("management", Role.MANAGEMENT.value), "lab", None)
                await context.methods.dispatch(call, "console.setup", order)
                return True
            case "retarget" | "drain" | "challenge" as what:
                call = Call(Caller("management", Role.MANAGEMENT.value), "lab", None)
                await context.methods.dispatch(call, f"console.{what}", order)
                return True
            case "configure":
                call = Call(Caller("management", Role.MANAGEMENT.value), "lab", None)
                await context.methods.dispatch(call, "console.configure", order)
                return True
            case "sessions":
                call = Call(Caller("management", Role.MANAGEMENT.value), "lab", None)
                return (await context.methods.dispatch(call, "console.list", None)).session_ids
            case "end":
                call = Call(Caller("management", Role.MANAGEMENT.value), "lab", None)
                await context.methods.dispatch(call, "console.end", order)
                return True
            case "issue":
                daemon.tokens[order["token"]] = order
                daemon.targets[order["session"]["session_id"]] = order.pop("target")
                return True
            case "target":
                daemon.targets[order["session_id"]] = order["target"]
                return True
            case "power":
                daemon.power = order["power"]
                return True
            case "scrollback":
                daemon.scrollbacks[order["session_id"]] = order["text"].encode("latin-1")
                return True
            case "blip":
                for connection in list(console._server._connections):
                    connection._browser.abortConnection()
                return True
            case "away":
                daemon.away = order["away"]
                return True
            case "deadlines":
                [port] = [one for one in reactor.getReaders() if isinstance(one, tls_port.TlsPort)]
                port.handshake_deadline_s = cast(Any, port.factory).timeOut = order["seconds"]
                return True
            case "calls":
                if order.get("clear"):
                    daemon.calls.clear()
                return daemon.calls
            case "rss":
                return resident_kib()
            case "descriptors":
                return open_descriptors()
            case "stop":
                for hook in context.on_stop:
                    await hook()
                reactor.callLater(0, reactor.stop)
                return True
            case unknown:
                raise AssertionError(unknown)

    def reply_to(line: str) -> None:
        def succeed(result: Any) -> None:
            write_line({"ok": result})

        def fail(failure: Any) -> None:
            write_line({"error": failure.getErrorMessage()})

        Deferred.fromCoroutine(execute(json.loads(line))).addCallbacks(succeed, fail)

    def read_orders() -> None:
        for line in sys.stdin:
            cast(Any, reactor).callFromThread(reply_to, line)
        cast(Any, reactor).callFromThread(reactor.stop)

    threading.Thread(target=read_orders, daemon=True).start()
    write_line({"ok": "ready"})
    reactor.run()


if __name__ == "__main__":
    main()
