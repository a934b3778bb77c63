# SPDX-License-Identifier: Apache-2.0
"""Why a control connection was refused, could not be made, or was lost: one set of codes for both ends."""

from __future__ import annotations

import enum


class ControlFailure(enum.Enum):
    """Stable codes: the reason of a refused call, of events, and of the agent's journal field REASON."""

    # a check that the other end did not pass
    NO_CERTIFICATE = "no-certificate"
    WRONG_CA = "wrong-ca"
    SELF_SIGNED = "self-signed"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    CHAIN = "bad-chain"
    USAGE = "wrong-usage"
    NAME = "wrong-name"
    REVOKED = "revoked"
    OFF_RECORD = "off-record"
    UNKNOWN = "unknown-vm"
    VERSION = "tls-version"
    PLAIN = "not-tls"
    TIMEOUT = "handshake-timeout"
    HUNG_UP = "hung-up"
    CROWDED = "too-many-connections"
    OUR_CERTIFICATE = "refuses-our-certificate"
    PROTOCOL = "tls-error"
    # what an agent that dials meets besides
    OWN_IDENTITY = "own-identity-unusable"
    CONNECTION_REFUSED = "connection-refused"
    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"
    HELLO_FAILED = "hello-failed"
    LOST = "connection-lost"
    INTERNAL = "internal"

    @property
    def is_of_network(self) -> bool:
        """Whether no connection could be made, so that no check of the other end began."""
        return self in (
            ControlFailure.CONNECTION_REFUSED,
            ControlFailure.NO_ANSWER,
            ControlFailure.UNREACHABLE,
        )

    @property
    def is_of_tls(self) -> bool:
        """Whether certificates, keys or TLS are the cause, which fresh credentials mend."""
        return self in _OF_TLS

    @classmethod
    def of(cls, reason: str) -> ControlFailure | None:
        """The member of this value; None for a reason that this release does not know."""
        return next((member for member in cls if member.value == reason), None)


_OF_TLS = frozenset(
    {
        ControlFailure.NO_CERTIFICATE,
        ControlFailure.WRONG_CA,
        ControlFailure.SELF_SIGNED,
        ControlFailure.EXPIRED,
        ControlFailure.NOT_YET_VALID,
        ControlFailure.CHAIN,
        ControlFailure.USAGE,
        ControlFailure.NAME,
        ControlFailure.REVOKED,
        ControlFailure.OFF_RECORD,
        ControlFailure.VERSION,
        ControlFailure.PLAIN,
        ControlFailure.OUR_CERTIFICATE,
        ControlFailure.PROTOCOL,
        ControlFailure.OWN_IDENTITY,
    }
)


class ChannelState(enum.Enum):
    """The agent's journal field CHANNEL: what has become of its control connection."""

    DIALING = "dialing"
    CONNECTED = "connected"
    NOT_CONNECTED = "not_connected"  # REASON, WHY, HOST, PORT and WAIT_S say more
