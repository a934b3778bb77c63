# SPDX-License-Identifier: Apache-2.0
"""Whatever a registered host answers is data or a typed error, and no error quotes what it sent."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from foreign_host_peers import PASSWORD, USERNAME, XEN_VM
from systemvm.management.foreign_hosts.access import ApiReply, HostAccess
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.management.foreign_hosts.inventory import MAX_NAME_LENGTH, HostInventory
from systemvm.management.foreign_hosts.vcenter import VcenterHost
from systemvm.management.foreign_hosts.xapi import XapiHost
from systemvm.wire.console import ConsoleTarget, TargetTls

ACCESS = HostAccess(
    ForeignHypervisor.XENSERVER, "https://xen.example.test", USERNAME, PASSWORD, TargetTls(ca_pem="CA")
)
MARK = "qqqq"  # in every text of the host's
TEXTS = st.text(max_size=40).map(lambda text: MARK + text)
NUMBERS = st.integers(-(2**70), 2**70)
LEAVES = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | TEXTS
KEYS = st.sampled_from(
    [
        "result",
        "error",
        "message",
        "data",
        "uuid",
        "name_label",
        "power_state",
        "VCPUs_max",
        "address",
        "vm",
        "name",
        "ticket",
        "software_version",
        "product_brand",
        "memory_static_max",
        "cpu_count",
    ]
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "uuid": st.just(XEN_VM) | LEAVES,
            "vm": st.just("vm-1") | LEAVES,
            "name": LEAVES,
            "name_label": LEAVES,
        },
        optional={"power_state": LEAVES, "VCPUs_max": LEAVES, "cpu_count": LEAVES, "address": LEAVES},
    ),
    max_size=3,
)
URLS = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["https", "wss", "http", "", "javascript"]),
    st.text(alphabet="[]:@/?#%.0123456789abcq\r\n\\", max_size=20),
    st.sampled_from(["", "/console?uuid=1", "/ticket/x", "\r\nX: y"]),
)


class Answers:
    """A host that answers one reply after another, the last one again and again."""

    def __init__(self, replies: list[ApiReply]) -> None:
        self._replies = replies

    def __call__(self, method: str, path: str, body: Any = None, headers: Any = None) -> ApiReply:
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


def check(ask: Any) -> None:
    try:
        found = ask()
    except ForeignHostError as error:
        assert isinstance(error.fault, ApiFault)
        text = f"{error} {error.message} {error.hint} {error!r}"
        assert MARK not in text, "an error does not quote the host"
        assert PASSWORD not in text
        return
    assert isinstance(found, (HostInventory, ConsoleTarget))
    if isinstance(found, HostInventory):
        for machine in found.machines:
            assert machine.name
            assert machine.name.isprintable()
            assert len(machine.name) <= MAX_NAME_LENGTH
            assert 0 <= machine.vcpus < 1 << 50
            assert 0 <= machine.memory_mib < 1 << 50


@given(st.lists(st.builds(ApiReply, st.integers(200, 599), JSON), min_size=1, max_size=6))
@example([ApiReply(200, {"result": MARK}), ApiReply(200, {"result": {MARK: {"uuid": XEN_VM}}})])
def test_any_json_of_xapi_is_data_or_a_typed_error(replies: list[ApiReply]) -> None:
    check(XapiHost(ACCESS, Answers(list(replies))).inventory)
    check(lambda: XapiHost(ACCESS, Answers(list(replies))).target(XEN_VM))


@given(RECORDS)
def test_any_record_of_xapi_is_a_vm_or_none(records: list[dict[str, Any]]) -> None:
    result = {"result": dict(enumerate(records))}
    check(XapiHost(ACCESS, Answers([ApiReply(200, {"result": "session"}), ApiReply(200, result)])).inventory)


@given(st.lists(st.builds(ApiReply, st.integers(200, 599), JSON), min_size=1, max_size=6))
def test_any_json_of_vcenter_is_data_or_a_typed_error(replies: list[ApiReply]) -> None:
    check(VcenterHost(ACCESS, Answers(list(replies))).inventory)
    check(lambda: VcenterHost(ACCESS, Answers(list(replies))).target("vm-1"))


@given(RECORDS)
def test_any_record_of_vcenter_is_a_vm_or_none(records: list[dict[str, Any]]) -> None:
    check(VcenterHost(ACCESS, Answers([ApiReply(201, "session"), ApiReply(200, records)])).inventory)


@given(URLS)
@example("https://[::1/console")
@example("wss://h:99999/ticket/a")
def test_any_place_of_a_console_is_a_target_or_a_typed_error(url: str) -> None:
    replies = [
        {"result": "session"},
        {"result": "vm"},
        {"result": ["con"]},
        {"result": "rfb"},
        {"result": url},
    ]
    check(lambda: XapiHost(ACCESS, Answers([ApiReply(200, each) for each in replies])).target(XEN_VM))
    ticket = [ApiReply(201, "session"), ApiReply(201, {"ticket": url})]
    check(lambda: VcenterHost(ACCESS, Answers(ticket)).target("vm-1"))
