# SPDX-License-Identifier: Apache-2.0
"""The client of qemu-guest-agent, against a double written from the protocol's specification."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
import pytest_twisted

from qemu_ga_double import QemuGaDouble
from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.hypervisors import guest_agent
from systemvm.management.hypervisors.guest_agent import GuestAgent, GuestInterface, Streams
from systemvm.management.hypervisors.guest_agent_session import GuestAgentError, GuestAgentSilentError


def agent(double: QemuGaDouble) -> GuestAgent:
    return GuestAgent("s-1-VM", double.connect)


@pytest_twisted.ensureDeferred
async def test_unread_data_of_an_earlier_client_is_skipped() -> None:
    double = QemuGaDouble()
    double.send(b'{"return": {"half an answer')
    double.send(b'": 1}\n\xff{"return": 7}\n\xffno json\n')
    await agent(double).ping()
    assert double.commands == ["guest-sync-delimited"]


@pytest_twisted.ensureDeferred
async def test_silent_guest_agent_is_reported() -> None:
    with pytest.raises(GuestAgentSilentError, match="guest agent did not answer"):
        await agent(QemuGaDouble(guest_sync_delimited=lambda _: None)).ping(timeout_s=0.05)


@pytest_twisted.ensureDeferred
async def test_command_that_does_not_end_is_named() -> None:
    double = QemuGaDouble(guest_get_osinfo=lambda _: None)
    with pytest.raises(GuestAgentSilentError, match="did not finish guest-get-osinfo"):
        await agent(double).os_info(timeout_s=0.05)
    assert double.closed


@pytest_twisted.ensureDeferred
async def test_missing_channel_and_ended_machine_are_reported() -> None:
    async def refused() -> Streams:
        raise FileNotFoundError("agent")

    with pytest.raises(GuestAgentSilentError, match="has no channel"):
        await GuestAgent("s-1-VM", refused).ping()
    double = QemuGaDouble(guest_sync_delimited=lambda _: None)
    double.reader.feed_eof()
    with pytest.raises(GuestAgentSilentError, match="machine ended"):
        await agent(double).ping()


@pytest_twisted.ensureDeferred
async def test_a_program_is_run_and_its_output_bounded() -> None:
    polls = iter([{"exited": False}, {
        "exited": True, "exitcode": 3, "out-data": base64.b64encode(b"x" * 50).decode(),
        "err-data": base64.b64encode(b"why").decode(),
    }])  # fmt: skip
    given: list[dict[str, Any]] = []

    def start(arguments: dict[str, Any]) -> object:
        given.append(arguments)
        return {"return": {"pid": 77}}

    double = QemuGaDouble(guest_exec=start, guest_exec_status=lambda _: {"return": next(polls)})
    done = await agent(double).run(["/bin/cat", "-A"], stdin=b"in", output_limit_bytes=20)
    assert given == [{"path": "/bin/cat", "arg": ["-A"], "capture-output": True, "input-data": "aW4="}]
    assert (done.exit_code, done.stdout, done.stderr, done.truncated) == (3, b"x" * 20, b"why", True)
    assert not done.succeeded


@pytest_twisted.ensureDeferred
async def test_files_are_read_and_written_in_parts_and_closed() -> None:
    double = QemuGaDouble()
    content = bytes(range(256)) * 700
    await agent(double).write_file("/var/cache/cloud/cmdline", content)
    assert double.files["/var/cache/cloud/cmdline"] == content
    assert await agent(double).read_file("/var/cache/cloud/cmdline") == content
    assert await agent(double).read_file("/var/cache/cloud/cmdline", limit_bytes=100) == content[:100]
    assert not double.left_open


@pytest_twisted.ensureDeferred
async def test_rejection_is_quoted_without_the_arguments() -> None:
    full = {"error": {"class": "GenericError", "desc": "failed to write to file: No space left on device"}}
    double = QemuGaDouble(guest_file_write=lambda _: full)
    with pytest.raises(GuestAgentError, match="No space left") as raised:
        await agent(double).write_file("/x", b"the secret")
    assert "the secret" not in str(raised.value)
    assert base64.b64encode(b"the secret").decode() not in str(raised.value)
    assert not double.left_open, "the file is closed after an error too"
    with pytest.raises(GuestAgentError, match="No such file"):
        await agent(double).read_file("/nowhere")


@pytest.mark.parametrize("answer", [[], {"return": {}}, {"return": {"pid": 1}, "x": 1}, {"error": "odd"}])
@pytest_twisted.ensureDeferred
async def test_invalid_answer_is_an_error(answer: object) -> None:
    double = QemuGaDouble(guest_exec=lambda _: answer, guest_exec_status=lambda _: {"return": 5})
    with pytest.raises(GuestAgentError):
        await agent(double).run(["/bin/true"])


@pytest_twisted.ensureDeferred
async def test_addresses_and_clock_are_read_and_the_clock_is_set() -> None:
    nics = [
        {
            "name": "eth0",
            "hardware-address": "0e:00",
            "ip-addresses": [{"ip-address": "fe80::1", "prefix": 64}],
        }
    ]
    set_to: list[int] = []

    def set_time(arguments: dict[str, Any]) -> object:
        set_to.append(arguments["time"])
        return {"return": {}}

    double = QemuGaDouble(
        guest_network_get_interfaces=lambda _: {"return": [*nics, {"name": "lo"}]},
        guest_get_time=lambda _: {"return": int((time.time() - 86400) * 1e9)},
        guest_set_time=set_time,
    )
    first, second = await agent(double).network_interfaces()
    assert first.addresses[0].address == "fe80::1"
    assert second == GuestInterface("lo", None, ())
    assert round(await agent(double).clock_skew_s()) == -86400
    await agent(double).set_time(1_800_000_000.5)
    assert set_to == [1_800_000_000_500_000_000]


# --- one held connection, because qemu-ga polls while it has no client


class _CountedConnections:
    """Connect to one double after another, and count."""

    def __init__(self, *doubles: QemuGaDouble) -> None:
        self._doubles = list(doubles)
        self.made = 0

    async def connect(self) -> Streams:
        self.made += 1
        return await self._doubles[min(self.made, len(self._doubles)) - 1].connect()


@pytest_twisted.ensureDeferred
async def test_held_connection_serves_every_session() -> None:
    double = QemuGaDouble()
    connections = _CountedConnections(double)
    agent = GuestAgent("s-1-VM", connections.connect)
    await in_asyncio(agent.hold())
    await in_asyncio(agent.hold())
    await agent.ping()
    await agent.ping()
    assert connections.made == 1
    assert not double.closed
    agent.release()
    assert double.closed


@pytest_twisted.ensureDeferred
async def test_failed_session_gets_a_new_held_connection() -> None:
    silent = QemuGaDouble(guest_sync_delimited=lambda arguments: None)
    working = QemuGaDouble()
    connections = _CountedConnections(silent, working)
    agent = GuestAgent("s-1-VM", connections.connect)
    with pytest.raises(GuestAgentSilentError):
        await agent.ping(timeout_s=0.05)
    assert silent.closed
    assert connections.made == 2
    await agent.ping()
    assert connections.made == 2
    assert not working.closed


@pytest_twisted.ensureDeferred
async def test_holding_a_missing_channel_is_not_an_error() -> None:
    async def missing_channel() -> Streams:
        raise FileNotFoundError

    agent = GuestAgent("s-1-VM", missing_channel)
    await in_asyncio(agent.hold())
    with pytest.raises(GuestAgentSilentError):
        await agent.ping()


@pytest_twisted.ensureDeferred
async def test_timeouts_scale_with_a_slow_guest() -> None:
    silent = QemuGaDouble(guest_sync_delimited=lambda arguments: None)
    slow = GuestAgent("s-1-VM", silent.connect, lambda: 5.0)
    began_s = time.monotonic()
    with pytest.raises(GuestAgentSilentError, match=r"did not answer within 0\.25 s"):
        await slow.ping(timeout_s=0.05)
    assert time.monotonic() - began_s >= 0.25


def fsfreeze(double: QemuGaDouble) -> list[str]:
    return [command.removeprefix("guest-fsfreeze-") for command in double.commands if "fsfreeze" in command]


def freezing(**answers: Any) -> QemuGaDouble:
    usual = {"status": "thawed", "freeze": 2, "thaw": 2} | answers
    return QemuGaDouble(
        **{
            f"guest_fsfreeze_{name}": lambda _, answer=answer: (
                answer if isinstance(answer, dict) or answer is None else {"return": answer}
            )
            for name, answer in usual.items()
        }
    )


async def freeze(double: QemuGaDouble, body: Exception | None = None) -> None:
    async def run() -> None:
        async with agent(double).frozen():
            double.commands.append("guest-fsfreeze-body")
            if body is not None:
                raise body

    await in_asyncio(run())


@pytest_twisted.ensureDeferred
async def test_file_systems_are_frozen_only_during_the_work() -> None:
    double = freezing()
    await freeze(double)
    assert fsfreeze(double) == ["status", "freeze", "body", "thaw"]
    double = freezing()
    with pytest.raises(KeyError):
        await freeze(double, KeyError("body"))
    assert fsfreeze(double)[-1] == "thaw"


@pytest_twisted.ensureDeferred
async def test_what_a_killed_daemon_froze_is_thawed_first() -> None:
    double = freezing(status="frozen")
    await freeze(double)
    assert fsfreeze(double) == ["status", "thaw", "freeze", "body", "thaw"]


@pytest_twisted.ensureDeferred
async def test_a_guest_that_does_not_freeze_is_thawed_and_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    double = freezing(freeze={"error": {"desc": "no file system"}})
    with pytest.raises(GuestAgentError, match="rejected guest-fsfreeze-freeze: no file system"):
        await freeze(double)
    assert fsfreeze(double) == ["status", "freeze", "thaw"]
    monkeypatch.setattr(guest_agent, "FREEZE_S", 0.05)
    late = freezing(freeze=None)  # it can freeze after its deadline
    with pytest.raises(GuestAgentSilentError, match="did not finish guest-fsfreeze-freeze"):
        await freeze(late)
    assert fsfreeze(late) == ["status", "freeze", "thaw"]
    monkeypatch.setattr(guest_agent, "ANSWER_S", 0.05)
    silent = QemuGaDouble(guest_sync_delimited=lambda _: None)
    with pytest.raises(GuestAgentSilentError, match="guest agent did not answer"):
        await freeze(silent)
    assert fsfreeze(silent) == [], "nothing was asked of it that would have to be undone"


@pytest_twisted.ensureDeferred
async def test_a_thaw_is_repeated_and_does_not_lose_the_work() -> None:
    answers = [{"error": {"desc": "busy"}}, {"return": 1}]
    double = QemuGaDouble(
        guest_fsfreeze_status=lambda _: {"return": "thawed"},
        guest_fsfreeze_freeze=lambda _: {"return": 1},
        guest_fsfreeze_thaw=lambda _: answers.pop(0),
    )
    await freeze(double)
    assert fsfreeze(double) == ["status", "freeze", "body", "thaw", "thaw"]
    stuck = freezing(thaw={"error": {"desc": "broken"}})
    await freeze(stuck)
    assert fsfreeze(stuck).count("thaw") == 3
