# SPDX-License-Identifier: Apache-2.0
"""Messages of every agent: `hello`, `ping`, `agent.health`, `agent.metrics`, `identity.sign`."""

from __future__ import annotations

import enum

from attrs import field, frozen

from systemvm.wire.slowness import MachineLoad

HELLO = "hello"  # agent → daemon, the first call on a connection
PING = "ping"  # either way
HEALTH = "agent.health"  # daemon → agent
CHECK = "agent.check"  # daemon → agent: the staged checks of `systemvm check`
METRICS = "agent.metrics"  # daemon → agent
SIGN = "identity.sign"  # agent → daemon
RENEW = "identity.renew"  # daemon → agent: make a new key and have it signed now
PATCH = "agent.patch"  # daemon → agent: new agent code into a running image

#: Methods for agents of any version, so that they can be examined, patched and replaced.
VERSION_INDEPENDENT_METHODS = frozenset({HELLO, PING, HEALTH, CHECK, SIGN, RENEW, PATCH})


class Capability(enum.Enum):
    """What an agent can do only with the units of a newer image: a patch brings code and no units."""

    LINKS = "links"  # serves images by links
    UPLOADS = "uploads"  # receives uploads


@frozen
class Hello:
    """Name, role and versions of an agent; `name` and `role` must be those of its certificate."""

    protocol_version: int
    name: str
    role: str
    agent_version: str
    image_version: str
    image_sha256: str
    boot_id: str
    clock_unix_s: float
    host_keys: list[str] = field(factory=list)  # public ssh host keys, OpenSSH text form
    instance: str = ""  # of the agent's process: a new process has none of the sessions of the old one
    capabilities: list[str] = field(factory=list)  # values of Capability; a newer agent can have others


@frozen
class Welcome:
    """The daemon's answer, with the protocol version to speak."""

    protocol_version: int
    host_uuid: str
    clock_unix_s: float
    ping_interval_s: float


@frozen
class Ping:
    sent_unix_s: float


@frozen
class Pong:
    sent_unix_s: float
    clock_unix_s: float


@frozen
class Health:
    """A snapshot of the guest, cheap enough for a call every few seconds."""

    uptime_s: float
    load_1min: float
    memory_total_bytes: int
    memory_available_bytes: int
    agent_rss_bytes: int
    root_free_bytes: int
    failed_units: list[str]
    reconnects: int
    load: MachineLoad | None = None  # None: the agent is older than this member


@frozen
class AgentMetrics:
    """What the agent shows to Prometheus, in its text format 0.0.4."""

    text: str


@frozen
class CheckStep:
    """One line of `systemvm check`: what was tried, and CloudStack's Good/WARNING/ERROR wording."""

    name: str
    status: str  # good | warning | error
    text: str
    hint: str = ""


@frozen
class CheckReport:
    steps: list[CheckStep]


@frozen
class SigningRequest:
    csr_pem: str


@frozen
class SignedCertificate:
    certificate_pem: str
    ca_pem: str
