# SPDX-License-Identifier: Apache-2.0
"""Reason codes that cross processes, and reports on a serial console."""

from __future__ import annotations

import pytest

from systemvm.wire.boot_failure import BootFailure
from systemvm.wire.control_failure import ControlFailure
from systemvm.wire.serial_report import AGENT, INITRD, PREINIT, SerialReport, last_report
from systemvm.wire.slowness import Delay
from systemvm.wire.store_failure import StoreFailure
from systemvm.wire.transfer_failure import TransferFailure


def test_exit_codes_map_to_their_reasons() -> None:
    with_codes = [reason for reason in BootFailure if reason.exit_code != 1]
    assert {reason.exit_code for reason in with_codes} == {10, 11, 12, 13, 14}
    assert all(BootFailure.of_exit_code(reason.exit_code) is reason for reason in with_codes)
    assert BootFailure.of_exit_code(0) is BootFailure.of_exit_code(1) is None


def test_a_reason_of_a_later_release_is_none() -> None:
    assert BootFailure.of("sunspots") is ControlFailure.of("sunspots") is None


def test_store_failures_are_failures_of_transfers_too() -> None:
    transfers = {failure.value for failure in TransferFailure}
    assert {failure.value for failure in StoreFailure} < transfers
    assert {delay.value for delay in Delay} < transfers


@pytest.mark.parametrize("reason", BootFailure)
@pytest.mark.parametrize("program", [INITRD, PREINIT, AGENT])
def test_a_serial_report_is_parsed_from_a_console(program: str, reason: BootFailure) -> None:
    report = SerialReport(program, reason.value, "what failed: why = so", "do this: REASON=no")
    assert last_report(["noise", *report.lines(), "[  1.0] more noise"]) == report


def test_newlines_of_a_report_are_removed() -> None:
    assert SerialReport(PREINIT, "x", "two\nlines", "a\r\nhint").lines() == [
        "systemvm-preinit: REASON=x two lines",
        "systemvm-preinit: HINT=a hint",
    ]


def test_a_report_that_journald_forwards_is_parsed() -> None:
    line = "systemvm-agent[91]: REASON=agent_cannot_start cannot start: bad key"
    assert last_report([line]) == SerialReport(AGENT, "agent_cannot_start", "cannot start: bad key")


def test_the_newest_report_is_returned() -> None:
    lines = [
        "systemvm-preinit: REASON=awaiting_boot_arguments no credential came",
        "systemvm-preinit: REASON=nic_absent there is no NIC eth3",
        "systemvm-preinit: HINT=it has eth0",
    ]
    assert last_report(lines) == SerialReport(PREINIT, "nic_absent", "there is no NIC eth3", "it has eth0")
    assert last_report(lines[:1]) == SerialReport(PREINIT, "awaiting_boot_arguments", "no credential came")


def test_an_image_older_than_reasons_reports_a_text_without_one() -> None:
    assert last_report(["systemvm-preinit: there is no NIC eth3", "  hint: it has eth0"]) == SerialReport(
        PREINIT, "", "there is no NIC eth3"
    )
    assert last_report(["initrd: a warning", "systemvm-agent[9]: some line", "sshd: REASON=x y"]) is None
