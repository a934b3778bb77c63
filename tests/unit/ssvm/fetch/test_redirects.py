# SPDX-License-Identifier: Apache-2.0
"""Redirects: each hop is checked, and their number is limited."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch import redirects
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.ssvm.fetch.probe import ProbeResult
from systemvm.ssvm.fetch.redirects import HopObserver, find_source
from systemvm.ssvm.fetch.route import SourceRoute
from systemvm.ssvm.fetch.source import SourcePolicy
from systemvm.ssvm.limits import DEFAULT
from systemvm.wire import source_url
from systemvm.wire.source_access import SourceAccess, SourceCredentials
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure


def find(
    monkeypatch: pytest.MonkeyPatch, hops: dict[str, str], first: str, *, checksum: bool = False
) -> tuple[Any, list[str]]:
    """Return the outcome and the probed URLs; `hops` are redirects, any other URL is a file of 7 bytes."""
    probed: list[str] = []

    async def probe(reactor: Any, url: SourceUrl, routes: list[SourceRoute], *rest: Any) -> ProbeResult:
        target = hops.get(url.text)
        if target is None:
            return ProbeResult(routes[0], total_bytes=7)
        return ProbeResult(routes[0], redirect=source_url.parse(target))

    monkeypatch.setattr(redirects, "probe", probe)
    outcome: list[Any] = []
    finding = find_source(
        None,
        source_url.parse(first),
        SourcePolicy(AddressPolicy(), None, checksum),
        DEFAULT,
        HopObserver(lambda url: probed.append(url.text)),
    )
    Deferred.fromCoroutine(finding).addErrback(lambda failure: failure.value).addCallback(outcome.append)
    return outcome[0], probed


def test_the_last_hop_is_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    hops = {"http://203.0.113.1/a": "http://203.0.113.2/b", "http://203.0.113.2/b": "http://203.0.113.3/c"}
    source, probed = find(monkeypatch, hops, "http://203.0.113.1/a")
    assert (source.url.text, source.total_bytes) == ("http://203.0.113.3/c", 7)
    assert probed == ["http://203.0.113.1/a", "http://203.0.113.2/b", "http://203.0.113.3/c"]


def test_a_loop_ends_after_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = {"http://203.0.113.1/a": "http://203.0.113.1/a"}
    error, probed = find(monkeypatch, loop, "http://203.0.113.1/a")
    assert isinstance(error, TransferError)
    assert error.code is TransferFailure.REDIRECTS
    assert len(probed) == DEFAULT.max_redirects + 1


def test_a_hop_to_a_denied_address_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    hops = {"http://203.0.113.1/a": "http://169.254.0.1/b"}
    error, _ = find(monkeypatch, hops, "http://203.0.113.1/a")
    assert isinstance(error, TransferError)
    assert error.code is TransferFailure.URL_DENIED


@pytest.mark.parametrize("checksum", [False, True])
def test_a_redirect_to_http_needs_a_checksum(monkeypatch: pytest.MonkeyPatch, checksum: bool) -> None:
    hops = {"https://203.0.113.1/a": "http://203.0.113.2/b"}
    outcome, _ = find(monkeypatch, hops, "https://203.0.113.1/a", checksum=checksum)
    if checksum:
        assert outcome.url.text == "http://203.0.113.2/b"
    else:
        assert outcome.code is TransferFailure.REDIRECTS


@pytest.mark.parametrize(
    ("here", "is_sent"),
    [
        ("https://images.example.test/other?x", True),
        ("https://images.example.test:443/a", True),
        ("http://images.example.test/a", False),  # another scheme
        ("https://images.example.test:8443/a", False),  # another port
        ("https://cdn.images.example.test/a", False),
        ("https://example.test/a", False),
    ],
)
def test_a_login_is_of_one_origin(here: str, is_sent: bool) -> None:
    access = SourceAccess(credentials=SourceCredentials("me", "secret"))
    policy = SourcePolicy(
        AddressPolicy(), None, False, access,
        login_origin=source_url.parse("https://images.example.test/a").origin,
    )  # fmt: skip
    found = policy.authorization(source_url.parse(here))
    assert found == ("Basic bWU6c2VjcmV0" if is_sent else None)
    assert evolve(policy, login_origin=None).authorization(source_url.parse(here)) is None
    assert "secret" not in repr(policy)
