# SPDX-License-Identifier: Apache-2.0
"""Challenges by which an ACME server finds that a name is ours, from the daemon to the system VM with it."""

from __future__ import annotations

from attrs import field, frozen

CONSOLE_CHALLENGE = "console.challenge"  # daemon → CPVM; replaces the pending ones (protocol 3)
EXTRACT_CHALLENGE = "extract.challenge"  # daemon → SSVM, and its agent → serve; as above (protocol 3)

#: A daemon that went away withdraws nothing: after this time no challenge is answered any more.
CHALLENGE_LIFETIME_S = 900.0


@frozen
class AcmeChallenge:
    """The certificate by which an ACME server finds that a name is ours (tls-alpn-01, RFC 8737)."""

    host: str
    certificate_pem: str = field(repr=False)
    private_key_pem: str = field(repr=False)


@frozen
class AcmeChallenges:
    """All challenges that are to be answered; an empty list ends them."""

    challenges: list[AcmeChallenge]
