# SPDX-License-Identifier: Apache-2.0
"""A resident root helper as a real process, whose children hang, are killed, or lose their callers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from systemvm.rpc.core.errors import FORBIDDEN, INTERNAL, NOT_CONNECTED, RpcError
from systemvm.service.slowness import scaled_s
from systemvm.ssvm import helper_client
from systemvm.ssvm.store.helper_children import MAX_CALLS

TOP = Path(__file__).resolve().parents[2]
HELPER = """
import os, signal, sys, time
from attrs import frozen
from systemvm.ssvm.store.call_queue import QueueLimits
from systemvm.ssvm.store import helper_server
from systemvm.ssvm.helper_call import Operation, Reply

@frozen
class Params:
    store: str = "one"
    path: str = ""

def hang(uid, params):
    with open(params.path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(3600)  # a call that hangs in the kernel cannot be made at will
    return Reply({})

def write(uid, params):
    open(params.path, "w").close()
    while not os.path.exists(params.path + ".go"):
        time.sleep(0.01)
    os.rename(params.path, params.path + ".done")
    return Reply({})

def directory(uid, params):
    return Reply({}, (os.open("/", os.O_RDONLY | os.O_CLOEXEC),))

def pid(uid, params):
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    return Reply({"pid": os.getpid(), "parent": os.getppid(), "descriptors": descriptors})

def copy(uid, params, report):
    for step in range(6):
        report({"step": step})
        time.sleep(0.5)
    return Reply({"pid": os.getpid()})

def own(params):
    return params.store

OPERATIONS = {
    "hang": Operation(Params, hang, store_of=own, cancellable=True),
    "write": Operation(Params, write, store_of=own),
    "directory": Operation(Params, directory, store_of=own),
    "pid": Operation(Params, pid, store_of=own),
    "copy": Operation(Params, copy, store_of=own, cancellable=True, reports=True),
    "forbidden": Operation(Params, pid, lambda uid: False, own),
    "crash": Operation(Params, lambda uid, params: os.kill(os.getpid(), signal.SIGSEGV), store_of=own),
}
LIMITS = QueueLimits(max_running=6, max_running_per_group=2, max_waiting=8, max_waiting_per_group=4)
helper_server.DEFAULT_LIMITS = LIMITS
helper_server.HelperServer.__init__.__kwdefaults__["limits"] = LIMITS
sys.exit(helper_server.serve_inherited_socket(OPERATIONS))
"""


class Helper:
    """A helper process on a socket that outlives it, as with systemd's socket activation."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "helper.sock"
        self.log = directory / "helper.log"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(self.path))
        self._listener.listen(512)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._listener.fileno()
        begin = f"import os; os.dup2({number}, 3); "
        begin += "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", begin + HELPER], pass_fds=[number], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(TOP / "agents")},
            )  # fmt: skip

    def replace(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.close()

    def children(self) -> list[int]:
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(number) for number in text.split()]

    async def call(self, method: str, timeout_s: float = 60.0, **params: Any) -> Any:
        answer, descriptors = await helper_client.call(reactor, self.path, method, params, dict, timeout_s)
        for descriptor in descriptors:
            os.close(descriptor)
        return answer


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Helper]:
    made = Helper(tmp_path)
    yield made
    made.stop()


async def until(holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait for another process without blocking the reactor."""
    began_s = time.monotonic()
    while not holds():
        waited_s = time.monotonic() - began_s
        assert waited_s < scaled_s(timeout_s), f"waited {waited_s:.0f} s for {what}"
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.01, turn.callback, None)
        await turn


async def hanging(helper: Helper, path: Path, store: str) -> Deferred[Any]:
    """Return a call that has begun and does not end."""
    running: Deferred[Any] = Deferred.fromCoroutine(helper.call("hang", store=store, path=str(path)))
    await until(lambda: path.exists() and path.read_text() != "", f"{path} to be written")
    return running


def open_descriptors(pid: int | str = "self") -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def error_of(awaitable: Any) -> RpcError:
    with pytest.raises(RpcError) as raised:
        await awaitable
    return raised.value


@pytest_twisted.ensureDeferred
async def test_a_child_inherits_nothing_of_its_parent(helper: Helper) -> None:
    first, other = await helper.call("pid"), await helper.call("pid", store="two")
    assert first["parent"] == other["parent"] == helper.process.pid
    # standard input, output and error, connection, channel, and the descriptor that lists them
    assert first["descriptors"] == other["descriptors"] == [0, 1, 2, 3, 4, 5]


@pytest_twisted.ensureDeferred
async def test_a_child_serves_one_caller_and_store_and_ends_when_idle(helper: Helper) -> None:
    served: dict[int, set[str]] = {}
    calls = 0
    while calls < 20 or len(served) == calls:  # unless every child was idle for too long
        store = ("one", "two")[calls % 2]
        found = await helper.call("pid", store=store)
        assert found["descriptors"] == [0, 1, 2, 3, 4, 5], "something of an earlier call is left"
        served.setdefault(found["pid"], set()).add(store)
        calls += 1
    assert all(len(stores) == 1 for stores in served.values())
    await until(lambda: helper.children() == [], "idle children to end")
    assert (await helper.call("pid"))["pid"] not in served
    assert "a child ended before" not in helper.log.read_text(), "an expected end was logged"


@pytest_twisted.ensureDeferred
async def test_a_child_is_replaced_after_many_calls(helper: Helper) -> None:
    pids = [(await helper.call("pid"))["pid"] for _ in range(MAX_CALLS + 1)]
    assert max(Counter(pids).values()) <= MAX_CALLS


@pytest_twisted.ensureDeferred
async def test_a_killed_idle_child_loses_no_call(helper: Helper) -> None:
    for _ in range(5):
        child = (await helper.call("pid"))["pid"]
        with suppress(ProcessLookupError):  # it was idle for too long
            os.kill(child, signal.SIGKILL)
        assert (await helper.call("pid"))["pid"] != child


@pytest_twisted.ensureDeferred
async def test_descriptors_arrive_and_none_is_left_in_the_helper(helper: Helper) -> None:
    await helper.call("pid")
    before = open_descriptors(helper.process.pid)
    own = open_descriptors()
    for _ in range(20):
        await helper.call("directory")
    await until(lambda: open_descriptors(helper.process.pid) <= before, "descriptors to be closed")
    await until(lambda: open_descriptors() <= own, "the client's descriptors to be closed")


@pytest_twisted.ensureDeferred
async def test_a_hung_store_is_busy_and_does_not_block_another(helper: Helper, tmp_path: Path) -> None:
    hung = [await hanging(helper, tmp_path / f"hung{number}", "hung") for number in range(2)]
    queued = [Deferred.fromCoroutine(helper.call("pid", store="hung", timeout_s=3600.0)) for _ in range(4)]
    assert (await error_of(helper.call("pid", store="hung"))).reason == "busy"
    assert await helper.call("pid", store="works")
    for each in [*hung, *queued]:
        each.addErrback(lambda failure: None)
        each.cancel()
    assert await helper.call("pid", store="hung")


@pytest_twisted.ensureDeferred
async def test_a_cancellable_call_ends_with_its_connection(helper: Helper, tmp_path: Path) -> None:
    running = await hanging(helper, tmp_path / "hung", "one")
    child = int((tmp_path / "hung").read_text())
    assert helper.children() == [child]
    running.addErrback(lambda failure: None)
    running.cancel()
    await until(lambda: helper.children() == [], "the child to be killed and reaped")
    await helper.call("pid")
    assert "a child ended before" not in helper.log.read_text(), "an expected end was logged"


@pytest_twisted.ensureDeferred
async def test_a_change_is_completed_without_its_caller(helper: Helper, tmp_path: Path) -> None:
    path = tmp_path / "change"
    running: Deferred[Any] = Deferred.fromCoroutine(helper.call("write", path=str(path)))
    await until(path.exists, "the change to begin")
    running.addErrback(lambda failure: None)
    running.cancel()
    path.with_suffix(".go").touch()
    await until(path.with_suffix(".done").exists, "the change to end")


@pytest_twisted.ensureDeferred
async def test_a_queued_call_past_its_deadline_is_not_begun(helper: Helper, tmp_path: Path) -> None:
    hung = [await hanging(helper, tmp_path / f"hung{number}", "one") for number in range(2)]
    late = tmp_path / "late"
    error = await error_of(helper.call("write", path=str(late), timeout_s=0.3))
    assert error.reason == "busy"
    for each in hung:
        each.addErrback(lambda failure: None)
        each.cancel()
    assert await helper.call("pid")
    assert not late.exists()


@pytest_twisted.ensureDeferred
async def test_a_call_that_began_and_times_out_is_a_hung_store(helper: Helper, tmp_path: Path) -> None:
    await helper.call("pid")  # the helper is up
    error = await error_of(helper.call("hang", path=str(tmp_path / "hung"), timeout_s=1.0))
    assert error.reason == "store_hangs"
    await until(lambda: helper.children() == [], "the child to be killed and reaped")


@pytest_twisted.ensureDeferred
async def test_a_call_whose_helper_dies_is_repeated(helper: Helper, tmp_path: Path) -> None:
    path = tmp_path / "change"
    running: Deferred[Any] = Deferred.fromCoroutine(helper.call("write", path=str(path)))
    await until(path.exists, "the change to begin")
    [child] = helper.children()
    helper.replace()
    path.unlink()
    os.kill(child, signal.SIGKILL)  # as systemd does with what a unit has left
    await until(path.exists, "the change to begin again")
    path.with_suffix(".go").touch()
    assert await running == {}
    assert path.with_suffix(".done").exists()


@pytest_twisted.ensureDeferred
async def test_a_child_that_dies_is_an_error_and_costs_no_slot(helper: Helper) -> None:
    for _ in range(8):
        assert (await error_of(helper.call("crash"))).reason == "worker_died"
    assert await helper.call("pid")


@pytest_twisted.ensureDeferred
async def test_a_stopped_child_holds_one_slot_of_its_own_store(helper: Helper, tmp_path: Path) -> None:
    path = tmp_path / "stopped"
    running: Deferred[Any] = Deferred.fromCoroutine(helper.call("write", path=str(path)))
    await until(path.exists, "the change to begin")
    [child] = helper.children()
    os.kill(child, signal.SIGSTOP)
    assert await helper.call("pid")
    os.kill(child, signal.SIGCONT)
    path.with_suffix(".go").touch()
    await running


@pytest_twisted.ensureDeferred
async def test_a_killed_helper_is_replaced_and_answers(helper: Helper) -> None:
    before = await helper.call("pid")
    helper.replace()
    assert (await helper.call("pid"))["parent"] not in (0, before["parent"])


@pytest_twisted.ensureDeferred
async def test_two_hundred_concurrent_calls_end_or_are_busy(helper: Helper) -> None:
    """Each store's queue accepts what it can hold and refuses the rest as busy; no call is lost."""

    async def one(number: int) -> str:
        try:
            await helper.call("pid", store=f"store {number % 50}")
        except RpcError as error:
            return error.reason
        return "done"

    outcomes = await gatherResults([Deferred.fromCoroutine(one(number)) for number in range(200)])
    assert set(outcomes) <= {"done", "busy"}
    assert outcomes.count("done") >= 8
    assert await helper.call("pid")


@pytest_twisted.ensureDeferred
async def test_sigterm_ends_it_after_its_last_child(helper: Helper, tmp_path: Path) -> None:
    path = tmp_path / "change"
    running: Deferred[Any] = Deferred.fromCoroutine(helper.call("write", path=str(path)))
    await until(path.exists, "the change to begin")
    helper.process.terminate()
    path.with_suffix(".go").touch()
    await running
    await until(lambda: helper.process.poll() is not None, "the helper to end")
    assert helper.process.returncode == 0


@pytest_twisted.ensureDeferred
async def test_a_forbidden_call_is_refused_without_a_child(helper: Helper) -> None:
    assert (await error_of(helper.call("forbidden"))).code == FORBIDDEN


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b"[" * 99 + b"\n"])
def test_malformed_lines_get_an_error_response(helper: Helper, line: bytes) -> None:
    for sent in (line, b'{"jsonrpc":"2.0","id":1,"method":"pid","params":{}}\n'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(os.fspath(helper.path))
            connection.sendall(sent)
            lines = b"".join(iter(lambda: connection.recv(65536), b"")).splitlines()
    begun, answer = map(json.loads, lines)
    assert begun["method"] == "helper.begun"
    assert answer["result"]["parent"] == helper.process.pid


def test_a_line_without_a_newline_is_refused(helper: Helper) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(os.fspath(helper.path))
        try:
            connection.sendall(b"x" * (1 << 21))
        except BrokenPipeError:
            return
        answer = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    assert answer["error"]["code"] == INTERNAL


@pytest_twisted.ensureDeferred
async def test_an_absent_helper_is_reported_with_a_hint(tmp_path: Path) -> None:
    error = await error_of(helper_client.call(reactor, tmp_path / "store.sock", "pid", {}, dict, 5.0))
    assert error.code == NOT_CONNECTED
    assert "systemvm-store" in error.hint


@pytest_twisted.ensureDeferred
async def test_a_call_that_reports_progress_can_take_longer_than_its_timeout(helper: Helper) -> None:
    await helper.call("pid")  # the helper is up
    seen: list[Any] = []
    # it takes 3 s, and reports all half a second
    answer, _ = await helper_client.call(reactor, helper.path, "copy", {}, dict, 1.5, seen.append)
    assert seen == [{"step": step} for step in range(6)]
    assert answer["pid"]
