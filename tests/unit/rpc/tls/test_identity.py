# SPDX-License-Identifier: Apache-2.0
"""The PEM bundle of the identity credential."""

from __future__ import annotations

import pytest

from rpc_pki import TestAuthority
from systemvm.rpc.tls.identity import Identity


def test_a_bundle_round_trips_with_two_authorities() -> None:
    agent = TestAuthority().agent()
    both = Identity(agent.private_key_pem, agent.certificate_pem, agent.ca_pem + TestAuthority().pem)
    again = Identity.from_pem_bundle(both.to_pem_bundle())
    assert again == both
    assert len(again.ca_certificates_pem()) == 2
    assert Identity.from_pem_bundle(both.to_pem_bundle().replace(b"\n", b"\r\n")) == both


def test_a_missing_part_is_named_and_the_key_is_not_shown() -> None:
    agent = TestAuthority().agent()
    for bundle in (
        b"",
        agent.certificate_pem + agent.ca_pem,
        agent.private_key_pem,
        agent.private_key_pem * 2 + agent.certificate_pem + agent.ca_pem,
        agent.private_key_pem + agent.certificate_pem,
    ):
        with pytest.raises(ValueError, match="identity bundle: ") as caught:
            Identity.from_pem_bundle(bundle)
        assert "BEGIN" not in str(caught.value)
    assert "BEGIN PRIVATE" not in repr(agent)
