# SPDX-License-Identifier: Apache-2.0
"""What the SSVM's agent does with certificates and challenges before serve runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.ssvm.agent.serving import Serving
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.acme import EXTRACT_CHALLENGE, AcmeChallenge, AcmeChallenges
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.extract import ExtractSetup

CALL = Call(Caller("host-1", "management"), "request-1", None)


def setup() -> ExtractSetup:
    issued = trustme.CA().issue_cert("203.0.113.5")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return ExtractSetup("https://203.0.113.5", chain.decode(), issued.private_key_pem.bytes().decode())


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


@pytest.fixture
def serving(reactor: MemoryReactorClock, tmp_path: Path) -> Serving:
    return Serving(reactor, tmp_path / "serve.sock")


@pytest_twisted.ensureDeferred
async def test_a_challenge_needs_a_certificate_and_starts_serve(
    serving: Serving, reactor: MemoryReactorClock
) -> None:
    methods = MethodTable("agent", "0")
    serving.add_methods(methods)
    pending = {"challenges": [{"host": "a.example", "certificate_pem": "c", "private_key_pem": "k"}]}
    with pytest.raises(RpcError) as refused:
        await methods.dispatch(CALL, EXTRACT_CHALLENGE, pending)
    assert refused.value.reason == CallRefusal.CANNOT_LISTEN.value
    await serving.set_up(CALL, setup())
    challenged = Deferred.fromCoroutine(methods.dispatch(CALL, EXTRACT_CHALLENGE, pending))
    [(path, attempt, *_)] = reactor.unixClients
    assert path.endswith("/serve.sock"), "its first connection starts serve"
    attempt.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    with pytest.raises(RpcError, match="serve cannot be started"):
        await challenged
    assert await methods.dispatch(CALL, EXTRACT_CHALLENGE, {"challenges": []}) == Acknowledgement()
    serving.stop()


@pytest_twisted.ensureDeferred
async def test_behind_a_proxy_there_is_neither_challenge_nor_metric(serving: Serving) -> None:
    await serving.set_up(CALL, ExtractSetup("http://203.0.113.5", "", ""))
    assert serving.metrics() == []
    with pytest.raises(RpcError):
        await serving.challenge(CALL, AcmeChallenges([AcmeChallenge("a.example", "c", "k")]))


@pytest_twisted.ensureDeferred
async def test_the_end_of_the_certificate_is_a_metric(serving: Serving) -> None:
    assert serving.metrics() == []
    await serving.set_up(CALL, setup())
    [metric] = serving.metrics()
    assert list(metric.values) == [""] and metric.values[""] != 0
