# SPDX-License-Identifier: Apache-2.0
"""Journal entries from log events."""

from __future__ import annotations

import io
import socket
import struct
from pathlib import Path

import pytest
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from systemvm.service import journal_entry
from systemvm.service.journal import JournalObserver, TextObserver, fields
from systemvm.service.journal_entry import encode


def test_plain_values_become_fields() -> None:
    event = {
        "log_format": "Job {job_id} took {took_s} s",
        "log_level": LogLevel.warn,
        "log_namespace": "systemvm.test",
        "job_id": "j-1",
        "took_s": 2.5,
        "priority": "forged",
        "_hidden": "x",
        "peer": object(),
    }
    assert fields(event, "systemvm-agent") == {
        "MESSAGE": "Job j-1 took 2.5 s",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "systemvm-agent",
        "LOGGER": "systemvm.test",
        "JOB_ID": "j-1",
        "TOOK_S": "2.5",
    }


def test_a_long_traceback_is_cut_at_its_beginning() -> None:
    try:
        raise RuntimeError("x" * 40_000 + "END")
    except RuntimeError:
        failure = Failure()
    found = fields({"log_format": "it broke", "log_level": LogLevel.critical, "log_failure": failure}, "t")
    assert found["PRIORITY"] == "2"
    assert found["MESSAGE"].rstrip().endswith("END")
    assert len(found["MESSAGE"]) < 17_000


def test_a_newline_cannot_forge_a_field() -> None:
    data = encode({"MESSAGE": "a\nPRIORITY=0", "LOGGER": "x"})
    assert data == b"MESSAGE\n" + struct.pack("<Q", 12) + b"a\nPRIORITY=0\nLOGGER=x\n"


def test_debug_events_are_not_sent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "socket"))
        journald.settimeout(5)
        log = Logger(namespace="n", observer=JournalObserver("agent", tmp_path / "socket"))
        log.debug("quiet")
        log.info("loud {name}", name="x")
        assert b"MESSAGE=loud x\n" in journald.recv(10_000)


def test_without_a_journal_events_go_to_the_stream(tmp_path: Path) -> None:
    stream = io.StringIO()
    Logger(namespace="n", observer=JournalObserver("agent", tmp_path / "absent", stream)).info("still logged")
    Logger(namespace="n", observer=TextObserver("agent", stream)).error("and this")
    assert stream.getvalue() == "<6>[n] still logged\n<3>[n] and this\n"


def test_an_entry_is_sent_without_twisted(tmp_path: Path) -> None:
    entry = {"MESSAGE": "no NIC\neth3", "REASON": "nic_absent"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "socket"))
        journal_entry.send(entry, tmp_path / "socket")
        assert journald.recv(4096) == encode(entry)
    with pytest.raises(OSError):
        journal_entry.send({"MESSAGE": "x"}, tmp_path / "absent")
